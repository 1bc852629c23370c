"""Models of the Hugging Face hub: ``hf://org/name@revision``, pinned to a commit, safetensors only.

The hub is reached in here and nowhere else; for every other URI the libraries stay offline. A token, where a
private model needs one, comes from HF_TOKEN through huggingface_hub's own chain.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from alignment_api.status import ModelPin
from alignment_trainer.errors import RequestError, StageError, TemporaryError
from alignment_trainer.models.folder import BASE, counts, require_usable
from alignment_trainer.storage.folders import file_sha256, sums_digest
from alignment_trainer.storage.local_files import file_error
from alignment_trainer.storage.refusals import checksum_differs

__all__ = ["SCHEME", "fetch", "pin", "read_file"]

SCHEME: Final = "hf://"
_URI = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
_lock = threading.Lock()


def pin(uri: str) -> ModelPin:
    """Resolve a branch or tag to its commit. The digest covers every file that counts; weights are not downloaded."""
    repository, revision = _parse(uri)
    with _online(uri, None) as hub:
        info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
        files = {item.rfilename: item for item in info.siblings or ()}

        def small(name: str) -> Path:
            return Path(hub.hf_hub_download(repository, name, revision=info.sha))

        require_usable(uri, files, lambda name: small(name).read_bytes())
        if BASE in files:
            raise RequestError(
                f"{uri} is an adapter; copy it to your storage to use it.", reason="ModelUnsupported"
            )
        sums = {
            name: item.lfs.sha256 if item.lfs else file_sha256(small(name))
            for name, item in files.items()
            if counts(name)
        }
    return ModelPin(uri=f"{SCHEME}{repository}@{info.sha}", digest=sums_digest(sums), version=info.sha)


def fetch(uri: str, digest: str, scratch: Path) -> Path:
    """Download a pinned model below ``scratch`` and verify it; reuses what is there."""
    repository, revision = _parse(uri)
    if revision is None or not _COMMIT.fullmatch(revision):
        raise RequestError(
            f"{uri} is not pinned to a commit; write hf://org/name@<40 hex digits>.", reason="UriInvalid"
        )
    target = scratch / "hub" / f"{repository.replace('/', '--')}-{revision[:12]}"
    with _online(uri, target) as hub:
        names = [
            item.rfilename for item in hub.HfApi().model_info(repository, revision=revision).siblings or ()
        ]
        hub.snapshot_download(
            repository,
            revision=revision,
            local_dir=target,
            allow_patterns=[name for name in names if counts(name)],
        )
    sums = {name: file_sha256(target / name) for name in names if counts(name)}
    if sums_digest(sums) != digest:
        raise checksum_differs(uri, found=sums_digest(sums), expected=digest)
    return target


def read_file(uri: str, name: str, scratch: Path) -> bytes | None:
    """One small file, or None when the model has none of that name."""
    repository, revision = _parse(uri)
    with _online(uri, scratch) as hub:
        try:
            path = hub.hf_hub_download(repository, name, revision=revision, local_dir=scratch / "hub-files")
        except hub.errors.EntryNotFoundError:
            return None
        return Path(path).read_bytes()


def _parse(uri: str) -> tuple[str, str | None]:
    found = _URI.fullmatch(uri)
    if found is None:
        raise RequestError(f"{uri} is not a hub model; write hf://org/name@revision.", reason="UriInvalid")
    return found[1], found[2]


@contextlib.contextmanager
def _online(uri: str, target: Path | None) -> Iterator[Any]:
    """huggingface_hub with the network allowed, for the block; its errors as ours.

    target: folder that the block writes to; None for the library's own cache.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    with _lock:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
        try:
            yield huggingface_hub
        except Exception as error:
            # The hub's client moves from one HTTP library to the next (httpx, httpx2): theirs are known by module.
            if not isinstance(error, errors.HfHubHTTPError | errors.HFValidationError | OSError) and not type(
                error
            ).__module__.startswith("httpx"):
                raise
            where = target or Path(constants.HF_HUB_CACHE)
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:  # the network's are OSErrors too
                raise file_error(error, where.absolute().as_uri()) from None
            raise _translated(error, uri, errors) from None
        finally:
            constants.HF_HUB_OFFLINE = before


def _translated(error: Exception, uri: str, errors: Any) -> StageError:
    if isinstance(error, errors.GatedRepoError):
        return RequestError(
            f"{uri} is gated; accept its terms and set HF_TOKEN in spec.pods.<stage>.env.",
            reason="AccessDenied",
        )
    if isinstance(
        error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.HFValidationError
    ):
        return RequestError(
            f"{uri} does not exist, or is private and HF_TOKEN is not set; check name and revision.",
            reason="ModelMissing",
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    return TemporaryError(
        f"{uri}: the hub could not be reached or broke off ({type(error).__name__}{f', {status}' if status else ''}); "
        "check the network, or copy the model to your storage.",
        reason="HubUnavailable",
    )
