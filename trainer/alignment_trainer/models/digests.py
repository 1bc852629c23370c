"""Digests of model folders, without reading gigabytes twice.

A folder's own ``SHA256SUMS`` is believed (every file is checked against it when it is fetched). Without one the
files are read through once, and the sums are kept in a cache under the state of the folder: names, sizes, etags.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from alignment_trainer.errors import RequestError
from alignment_trainer.models.folder import ModelFolder, counts
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import SUMS, object_sha256, read_sums, sums_digest
from alignment_trainer.storage.store import ObjectStore

__all__ = ["ModelSums", "model_sums"]

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelSums:
    """Digest of a model folder, and the sha256 of each file that counts.

    digest: of ``SHA256SUMS`` where the folder has one; else of the one that its files would have.
    """

    digest: str
    sums: Mapping[str, str]


def model_sums(
    folder: ModelFolder,
    store: ObjectStore,
    *,
    cache: str | None = None,
    cache_store: ObjectStore | None = None,
    remember: bool = True,
) -> ModelSums:
    """Digest and sums of a model folder.

    cache: folder URI for sums that have to be computed; needs cache_store. remember: also write there.
    """
    declared = read_sums(store, folder.uri)
    if declared is not None:
        sums = _declared(folder, {name: sha256 for name, sha256 in declared.items() if counts(name)})
        return ModelSums(sums_digest(declared), sums)
    sums = _cached(folder, store, cache, cache_store, remember=remember)
    return ModelSums(sums_digest(sums), sums)


def _cached(
    folder: ModelFolder,
    store: ObjectStore,
    cache: str | None,
    cache_store: ObjectStore | None,
    *,
    remember: bool,
) -> dict[str, str]:
    if cache is None or cache_store is None:
        return _computed(folder, store)
    kept_uri = uris.join(cache, _state(folder) + ".json")
    if cache_store.stat(kept_uri) is not None:
        kept = _read(cache_store.get(kept_uri)[0])
        if kept.keys() == folder.files.keys():
            return kept
    sums = _computed(folder, store)
    if remember:
        cache_store.put(kept_uri, json.dumps(sums, sort_keys=True).encode())
    return sums


def _read(data: bytes) -> dict[str, str]:
    """Kept sums; none of them where what was kept is damaged, so that they are computed anew."""
    try:
        kept = json.loads(data)
    except ValueError:
        return {}
    whole = isinstance(kept, dict) and all(_SHA256.fullmatch(str(sha256)) for sha256 in kept.values())
    return kept if whole else {}


def _declared(folder: ModelFolder, declared: dict[str, str]) -> dict[str, str]:
    odd = sorted(declared.keys() ^ folder.files.keys())
    if odd:
        raise RequestError(
            f"Model folder {folder.uri}: {odd[0]} is {'listed in' if odd[0] in declared else 'not listed in'} {SUMS} "
            f"but {'absent' if odd[0] in declared else 'present'}; restore the folder, or delete {SUMS}.",
            reason="ChecksumsInvalid",
        )
    return declared


def _computed(folder: ModelFolder, store: ObjectStore) -> dict[str, str]:
    return {name: object_sha256(store, uris.join(folder.uri, name)) for name in sorted(folder.files)}


def _state(folder: ModelFolder) -> str:
    lines = [f"{info.uri} {info.size} {info.etag}" for _, info in sorted(folder.files.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
