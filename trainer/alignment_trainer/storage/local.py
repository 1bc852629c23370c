"""Objects as files: ``file:///path`` and, below the folder where volumes are mounted, ``pvc://claim/path``.

A file appears whole or not at all: it is written beside its place, flushed, and renamed. Conditions hold
between processes: a put with a condition holds its folder's lock, and creating goes through a hard link, which
fails when the name is taken. A put without a condition takes no lock, as in S3: the last writer wins.
Links are followed, to files and to folders alike; pipes, sockets and devices are no objects.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes

from alignment_trainer.errors import RequestError
from alignment_trainer.storage import uris
from alignment_trainer.storage.local_files import (
    RESERVED,
    file_error,
    locked,
    open_regular,
    prune,
    replacing,
    walk,
)
from alignment_trainer.storage.refusals import checksum_differs, too_large
from alignment_trainer.storage.store import Absent, Condition, ConditionFailed, ObjectInfo

__all__ = ["LocalStore"]

_CHUNK_BYTES = 4 * 1024 * 1024
_HASHED_BYTES = 64 * 1024
"""Up to this size an etag is the content's hash; above, size, time and inode. Pointers and ledgers are small,
and the clock of a file system ticks too slowly (about 4 ms) to tell two quick writes apart."""


class LocalStore:
    """Objects of ``file://`` or ``pvc://`` URIs.

    volumes: folder below which the volumes of ``pvc://`` are mounted, by claim; None for ``file://``.
    """

    def __init__(self, volumes: Path | None = None) -> None:
        self._volumes = volumes

    def list(self, pattern: str) -> Iterator[ObjectInfo]:
        """See :class:`ObjectStore`."""
        matches = uris.glob_regex(pattern).match
        prefix = uris.glob_prefix(pattern)
        base = self._path(prefix if prefix.endswith("/") else uris.parent(prefix))
        if not uris.is_glob(pattern) and not pattern.endswith("/"):
            found = self.stat(pattern)
            return iter((found,) if found else ())
        try:
            paths = sorted(self._uri(path) for path in walk(base))
        except OSError as error:
            raise file_error(error, pattern) from None
        infos = (self.stat(uri) for uri in paths if matches(uri))
        return (info for info in infos if info is not None)

    def stat(self, uri: str) -> ObjectInfo | None:
        """See :class:`ObjectStore`."""
        try:
            with open_regular(self._path(uri)) as file:
                return _info(uri, file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENXIO:  # a pipe, a socket, a device: no object either
                return None
            raise file_error(error, uri) from None

    @contextlib.contextmanager
    def open(self, uri: str, *, offset: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        """See :class:`ObjectStore`."""
        # Only the opening is translated: what the caller's block raises is the caller's.
        with self._open(uri) as file:
            file.seek(offset)
            yield cast("BinaryIO", file if length is None else _Window(file, length))

    def get(self, uri: str, *, maximum_bytes: int = 64 * 1024 * 1024) -> tuple[bytes, ObjectInfo]:
        """See :class:`ObjectStore`."""
        with self._open(uri) as file:
            info = _info(uri, file)
            if info.size > maximum_bytes:
                raise too_large(uri, info.size, maximum_bytes)
            return file.read(), info

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        target = self._target(uri)
        try:
            if condition is None:
                return self._write(uri, target, io.BytesIO(data))
            with locked(target.parent):
                found = self.stat(uri)
                if isinstance(condition, Absent):
                    if found is not None:
                        raise ConditionFailed(uri)
                    return self._write(uri, target, io.BytesIO(data), create=True)
                if found is None or found.etag != condition.etag:
                    raise ConditionFailed(uri)
                return self._write(uri, target, io.BytesIO(data))
        except OSError as error:
            raise file_error(error, uri) from None

    def upload(self, source: Path, uri: str) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        target = self._target(uri)
        try:
            with source.open("rb") as file:
                return self._write(uri, target, file)
        except OSError as error:
            raise file_error(error, uri) from None

    def download(self, uri: str, target: Path, *, sha256: str | None = None) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        digest = hashlib.sha256()
        with self._open(uri) as source:
            try:
                with replacing(target, durable=False) as file:
                    while chunk := source.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
                    if sha256 is not None and digest.hexdigest() != sha256:
                        raise checksum_differs(uri, found=digest.hexdigest(), expected=sha256)
                    return _info(uri, source)
            except OSError as error:
                raise file_error(error, target.as_uri()) from None

    def copy(self, source: str, target: str) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        with self._open(source) as file:
            try:
                return self._write(target, self._target(target), file)
            except OSError as error:
                raise file_error(error, target) from None

    def local_path(self, uri: str) -> Path | None:
        """See :class:`ObjectStore`."""
        return self._path(uri)

    def delete(self, uri: str) -> None:
        """See :class:`ObjectStore`."""
        path = self._path(uri)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise file_error(error, uri) from None
        prune(path.parent, keep=self._volumes / uris.parse(uri).root if self._volumes else Path("/"))

    def _write(self, uri: str, target: Path, source: BinaryIO, *, create: bool = False) -> ObjectInfo:
        commit = None
        if create:

            def commit(temporary: Path, final: Path) -> None:
                _link(uri, temporary, final)

        with replacing(target, durable=True, commit=commit) as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
            file.flush()
            return _info(uri, file)

    def _open(self, uri: str) -> BinaryIO:
        try:
            return open_regular(self._path(uri))
        except OSError as error:
            raise file_error(error, uri) from None

    def _target(self, uri: str) -> Path:
        path = self._path(uri)
        if uri.endswith("/") or path.name.startswith(RESERVED):
            raise RequestError(
                f"{uri} cannot be written as an object; choose another name.", reason="UriInvalid"
            )
        return path

    def _path(self, uri: str) -> Path:
        location = uris.parse(uri)
        relative = os.fsdecode(unquote_to_bytes(location.key))
        if "\0" in relative or ".." in relative.split("/"):
            raise RequestError(
                f"{uri} has a part that no path may have; write the full path.", reason="UriInvalid"
            )
        if self._volumes is not None:
            if not location.root:
                raise RequestError(f"{uri} names no claim; write pvc://claim/path.", reason="UriInvalid")
            volume = self._volumes / location.root
            if not volume.is_dir():
                raise RequestError(
                    f"Claim {location.root} of {uri} is not mounted (looked in {volume}); "
                    "check that the PersistentVolumeClaim exists in the run's namespace.",
                    reason="ClaimMissing",
                )
            return volume / relative
        if location.root:
            raise RequestError(
                f"{uri} names a host or a relative path; a file URI has three slashes and a full path: file:///{location.root}/….",
                reason="UriInvalid",
            )
        return Path("/") / relative

    def _uri(self, path: Path) -> str:
        if self._volumes is not None:
            return "pvc://" + uris.quoted(os.fsencode(path.relative_to(self._volumes)))
        return "file://" + uris.quoted(os.fsencode(path))


def _link(uri: str, temporary: Path, final: Path) -> None:
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise ConditionFailed(uri) from None
    except PermissionError:
        # File systems without hard links (some network mounts): the folder's lock is held, so this is safe
        # against every writer that asks for a condition.
        if final.exists():
            raise ConditionFailed(uri) from None
        temporary.replace(final)


def _info(uri: str, file: BinaryIO) -> ObjectInfo:
    status = os.fstat(file.fileno())
    if status.st_size <= _HASHED_BYTES:
        etag = hashlib.sha256(os.pread(file.fileno(), _HASHED_BYTES + 1, 0)).hexdigest()[:32]
    else:
        etag = f"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"
    return ObjectInfo(uri, status.st_size, etag, datetime.fromtimestamp(status.st_mtime, UTC))


class _Window(io.RawIOBase):
    """The next ``length`` bytes of a file."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)
