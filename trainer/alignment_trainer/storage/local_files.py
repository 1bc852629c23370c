"""What :mod:`local` needs of the file system: atomic files, locks between processes, errors in words.

Nothing here knows URIs but for messages.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from alignment_trainer.errors import RequestError, StageError, TemporaryError
from alignment_trainer.storage.refusals import missing

__all__ = [
    "RESERVED",
    "file_error",
    "fsync_folder",
    "locked",
    "open_regular",
    "prune",
    "replacing",
    "walk",
]

RESERVED = ".align-"
"""Names beginning so are ours: locks and half-written files. Never listed."""
_LOCK = RESERVED + "lock"
_TEMPORARY = RESERVED + "tmp-"
_STALE_SECONDS = 86_400.0
"""A half-written file older than this was left by a killed process; the longest upload takes far less."""
_TRIES: Final = 8
"""How often what someone else takes away is made again."""

_FULL = (TemporaryError, "DiskFull", "No space left for {place}; free space or choose another place.")
_DENIED = (
    RequestError,
    "AccessDenied",
    "Access to {place} was denied; give user {user} the right, or choose another place.",
)
_BLOCKED = (
    RequestError,
    "KeyIsFolder",
    "{uri} has a file where a folder is needed; no object may be another's folder. Rename one of them.",
)
_UNKNOWN = (TemporaryError, "StorageUnavailable", "{place}: {words}; look at the disk and try again.")
_REFUSALS: Final[dict[int, tuple[type[StageError], str, str]]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: (RequestError, "ReadOnly", "{place} is read-only; choose a place that can be written."),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EISDIR: (
        RequestError,
        "KeyIsFolder",
        "{uri} is a folder; name an object, or end the URI with '/'.",
    ),
    errno.ENXIO: (
        RequestError,
        "UriInvalid",
        "{uri} is a pipe, a socket or a device; name a file.",
    ),
    errno.ENOTDIR: _BLOCKED,
    errno.EEXIST: _BLOCKED,
    errno.ENAMETOOLONG: (
        RequestError,
        "UriInvalid",
        "{uri} has a name that is too long for the file system.",
    ),
}


def file_error(error: OSError, uri: str) -> StageError:
    """The file system's refusal as one sentence that names the URI and the remedy."""
    if error.errno == errno.ENOENT:
        return missing(uri)
    place = f"{uri} ({error.filename})" if error.filename else uri
    family, reason, sentence = _REFUSALS.get(error.errno or 0, _UNKNOWN)
    words = error.strerror or type(error).__name__
    return family(sentence.format(uri=uri, place=place, words=words, user=os.getuid()), reason=reason)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading. Never waits: a pipe, a socket or a device is refused (OSError, ENXIO)."""

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NONBLOCK)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # of a folder, open itself complains
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), name)

    return open(path, "rb", opener=opener)


def walk(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Files below a folder and below the folders that links in it lead to, in no particular order; ours left out.

    above: (device, inode) of the folders that lead here: a link back to one of them is not followed.
    """
    try:
        own = folder.stat()
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # pruned meanwhile, or never there
    above |= {(own.st_dev, own.st_ino)}
    for entry in entries:
        if entry.name.startswith(RESERVED):
            continue
        try:
            status = entry.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # a link to nowhere, or to itself
                continue
            raise
        if not stat.S_ISDIR(status.st_mode):
            yield Path(entry)
        elif (status.st_dev, status.st_ino) not in above:
            yield from walk(Path(entry), above)


@contextlib.contextmanager
def replacing(
    target: Path, *, durable: bool, commit: Callable[[Path, Path], None] | None = None
) -> Iterator[io.BufferedRandom]:
    """A file that becomes ``target`` when the block ends well, and never existed when it does not.

    durable: flush to the disk before and after. commit: (temporary, target), how it takes its place;
    default replaces atomically.
    """
    temporary = target.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    descriptor = _create(temporary)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        (commit or os.replace)(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    if durable:
        fsync_folder(target.parent)


def _create(temporary: Path) -> int:
    # A folder that someone prunes between mkdir and open is made again.
    for _ in range(_TRIES):
        _make(temporary.parent)
        with contextlib.suppress(FileNotFoundError):
            return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(temporary))


def _make(folder: Path) -> None:
    """Make a folder and those above it, any of which someone may prune meanwhile."""
    for tries_left in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (
            FileNotFoundError,
            FileExistsError,
        ):  # the second when it goes before mkdir has seen that it is one
            if not tries_left:
                raise
        else:
            return


def fsync_folder(folder: Path) -> None:
    """Make names in a folder survive a power cut. File systems that cannot are left to their own."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock against other threads, processes and, where the file system can, machines."""
    path = folder / _LOCK
    while True:
        _make(folder)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # the folder was pruned under us
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_same_file(descriptor, path):
                continue  # pruned while we waited: this lock guards nothing any more
            yield
            return
        finally:
            os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def prune(folder: Path, *, keep: Path) -> None:
    """Remove the folder and its parents, up to ``keep``, as far as they are empty: object stores have no empty folders."""
    for candidate in (folder, *folder.parents):
        if candidate == keep:
            return
        with contextlib.suppress(OSError):
            _sweep(candidate)
        try:
            candidate.rmdir()
        except OSError:
            return


def _sweep(folder: Path) -> None:
    """Remove what killed processes left, where nothing else is in the folder."""
    entries = list(folder.iterdir())
    if any(not entry.name.startswith(RESERVED) for entry in entries):
        return
    for entry in entries:
        if entry.name == _LOCK:
            _remove_lock(entry)
        elif time.time() - entry.stat().st_mtime > _STALE_SECONDS:
            entry.unlink()


def _remove_lock(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same_file(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)
