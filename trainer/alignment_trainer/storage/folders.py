"""Folders of objects with one digest: uploaded whole, verified whole.

A folder's last object is ``SHA256SUMS`` in the form that ``sha256sum --check`` reads. Its own sha256 is the
folder's digest, so a folder can be pinned by one string and verified file by file, with no code of ours. A
folder without it is not complete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from alignment_api.stage import ArtifactRef
from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.storage import uris
from alignment_trainer.storage.store import ObjectInfo, ObjectStore

__all__ = [
    "SUMS",
    "copy_object",
    "delete_folder",
    "fetch_folder",
    "fetch_sums",
    "file_sha256",
    "list_folder",
    "object_sha256",
    "read_sums",
    "sums_digest",
    "sums_text",
    "upload_folder",
]

SUMS: Final = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_CHUNK_BYTES = 4 * 1024 * 1024


def sums_text(sums: Mapping[str, str]) -> bytes:
    """``SHA256SUMS`` of files by name: ``<sha256>  <name>`` lines, sorted by name."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def sums_digest(sums: Mapping[str, str]) -> str:
    """Digest of a folder with these files: ``sha256:`` and the sha256 of its ``SHA256SUMS``."""
    return "sha256:" + hashlib.sha256(sums_text(sums)).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a local file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def object_sha256(store: ObjectStore, uri: str) -> str:
    """sha256 of an object, hex; reads it through unless the store keeps it beside the object."""
    found = store.stat(uri)
    if found is not None and found.sha256 is not None:
        return found.sha256
    digest = hashlib.sha256()
    with store.open(uri) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def list_folder(store: ObjectStore, folder: str) -> dict[str, ObjectInfo]:
    """Objects below a folder by their path in it."""
    base = folder.rstrip("/") + "/"
    return {uris.relative(info.uri, base): info for info in store.list(base)}


def read_sums(store: ObjectStore, folder: str) -> dict[str, str] | None:
    """sha256 by name from a folder's ``SHA256SUMS``; None when it has none. Raises RequestError when it is damaged."""
    uri = uris.join(folder, SUMS)
    if store.stat(uri) is None:
        return None
    data, _ = store.get(uri)
    sums = {}
    for number, line in enumerate(data.decode("utf-8", "replace").removesuffix("\n").split("\n"), 1):
        found = _LINE.fullmatch(line)
        if found is None or found[2].startswith("/") or ".." in found[2].split("/"):
            raise RequestError(
                f"{uri}:{number} is not a line of sha256sum; restore the folder, or delete {SUMS} to have it computed.",
                reason="ChecksumsInvalid",
            )
        sums[found[2]] = found[1]
    return sums


def upload_folder(source: Path, folder: str, store: ObjectStore) -> ArtifactRef:
    """Store a local folder whole; what an earlier, killed attempt left there and is not in it goes.

    May be killed at any moment: until ``SHA256SUMS`` is written, last, the folder does not count. Done again
    with the same content it writes nothing. Returns URI (ending with ``/``) and digest.
    """
    folder = folder.rstrip("/") + "/"
    files = sorted(path for path in source.rglob("*") if path.is_file())
    sums = {path.relative_to(source).as_posix(): file_sha256(path) for path in files}
    sums.pop(SUMS, None)
    ref = ArtifactRef(uri=folder, digest=sums_digest(sums))
    present = list_folder(store, folder)
    if SUMS in present:
        if set(present) == {*sums, SUMS} and read_sums(store, folder) == sums:
            return ref
        store.delete(folder + SUMS)
    for name, sha256 in sums.items():
        if name not in present or not _is_stored(store, folder + name, sha256):
            store.upload(source / name, folder + name)
    for name in present.keys() - sums.keys() - {SUMS}:
        store.delete(folder + name)
    store.put(folder + SUMS, sums_text(sums))
    return ref


def _is_stored(store: ObjectStore, uri: str, sha256: str) -> bool:
    found = store.stat(uri)
    return found is not None and found.sha256 == sha256


def fetch_folder(ref: ArtifactRef, store: ObjectStore, scratch: Path) -> Path:
    """A local folder with an artifact's content, verified: in place on file systems, else downloaded below ``scratch``.

    The folder is to be read, never written. Raises TemporaryError ArtifactChanged when it is not what was
    pinned, ChecksumDiffers when a file is damaged; RequestError when it is gone.
    """
    sums = read_sums(store, ref.uri)
    if sums is None:
        raise RequestError(
            f"{ref.uri} is gone or incomplete ({SUMS} is missing); it may have been deleted by retention. Start a new run.",
            reason="ArtifactMissing",
        )
    if sums_digest(sums) != ref.digest:
        raise TemporaryError(
            f"{ref.uri} has digest {sums_digest(sums)}, pinned is {ref.digest}: another process wrote it. "
            "Let it finish, or start a new run.",
            reason="ArtifactChanged",
        )
    return fetch_sums(ref.uri, sums, store, scratch)


def fetch_sums(folder: str, sums: Mapping[str, str], store: ObjectStore, scratch: Path) -> Path:
    """A local folder with the named files of ``folder``, each with the sha256 given; see :func:`fetch_folder`."""
    in_place = store.local_path(folder)
    if in_place is not None:
        for name, sha256 in sums.items():
            _verify(in_place / name, uris.join(folder, name), sha256)
        return in_place
    text = sums_text(sums)
    target = scratch / "folders" / hashlib.sha256(folder.encode() + b"\n" + text).hexdigest()[:16]
    # The scratch folder is this run's own: what was verified when it arrived needs no second look.
    if (target / SUMS).exists() and (target / SUMS).read_bytes() == text:
        return target
    for name, sha256 in sums.items():
        path = target / name
        if not path.exists() or file_sha256(path) != sha256:
            store.download(uris.join(folder, name), path, sha256=sha256)
    target.mkdir(parents=True, exist_ok=True)
    (target / SUMS).write_bytes(text)
    return target


def _verify(path: Path, uri: str, sha256: str) -> None:
    if not path.is_file():
        raise RequestError(
            f"{uri} does not exist any more; restore it, or start a new run.", reason="ObjectMissing"
        )
    found = file_sha256(path)
    if found != sha256:
        raise TemporaryError(
            f"{uri} has sha256 {found}, expected {sha256}: it was damaged or replaced. "
            "Restore it, or start a new run that pins what is there now.",
            reason="ChecksumDiffers",
        )


def copy_object(
    source: str, source_store: ObjectStore, target: str, target_store: ObjectStore, scratch: Path
) -> str:
    """Copy one object, also between stores; on the server where both are one store. Returns its sha256, hex."""
    sha256 = object_sha256(source_store, source)
    if source_store is target_store:
        source_store.copy(source, target)
        return sha256
    path = source_store.local_path(source)
    if path is not None:
        target_store.upload(path, target)
        return sha256
    temporary = scratch / "copying"
    source_store.download(source, temporary, sha256=sha256)
    try:
        target_store.upload(temporary, target)
    finally:
        temporary.unlink()
    return sha256


def delete_folder(store: ObjectStore, folder: str) -> int:
    """Delete every object below a folder, ``SHA256SUMS`` first, so that no half folder looks complete. Returns how many."""
    names = sorted(list_folder(store, folder), key=lambda name: (not name.endswith(SUMS), name))
    for name in names:
        store.delete(uris.join(folder, name))
    return len(names)
