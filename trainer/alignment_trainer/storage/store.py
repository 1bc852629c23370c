"""The one interface through which stages read and write objects, addressed by URI.

Called by every stage. An implementation is one file beside this one and one entry in
``registry.SCHEMES``; it never decides what an object means.

Conditions: ``put`` takes ``Absent()`` (create only) or ``Matches(etag)`` (replace only if unchanged) and
raises :class:`ConditionFailed` when the object is not as required. Server-side copies take no condition,
because real servers ignore them there: a copy is never a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

__all__ = ["Absent", "Condition", "ConditionFailed", "Matches", "ObjectInfo", "ObjectStore"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object.

    size: bytes. etag: opaque version token, changes whenever the content does. modified: when it was
    written. sha256: hex, where the store keeps it beside the object (S3 objects written by us, ``stat``
    and ``get`` only); None means unknown, see ``folders.object_sha256``.
    """

    uri: str
    size: int
    etag: str
    modified: datetime | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The object must not exist yet."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The object must still have this etag."""

    etag: str


Condition = Absent | Matches


class ConditionFailed(Exception):
    """A conditional put found another object than it required; nothing was written."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} was changed by someone else; nothing was written")
        self.uri = uri


class ObjectStore(Protocol):
    """Objects of one scheme (and, for S3, one endpoint). All methods take whole URIs.

    Raises, from every method: RequestError for what the person must change (bucket or object missing,
    access denied, wrong endpoint), TemporaryError for what may recover; each names the URI and the remedy.
    """

    def list(self, pattern: str) -> Iterator[ObjectInfo]:
        """Objects matching a URI with ``*``, ``**``, ``?``, ``[…]``, or below a folder URI ending in ``/``; sorted."""
        ...

    def stat(self, uri: str) -> ObjectInfo | None:
        """The object, or None when it does not exist."""
        ...

    def open(
        self, uri: str, *, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Stream the bytes from ``offset`` on. A stream that ends early raises TemporaryError while reading."""
        ...

    def get(self, uri: str, *, maximum_bytes: int = 64 * 1024 * 1024) -> tuple[bytes, ObjectInfo]:
        """A whole small object and its version; RequestError when larger than ``maximum_bytes``."""
        ...

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        """Write a whole small object atomically. Raises ConditionFailed."""
        ...

    def upload(self, source: Path, uri: str) -> ObjectInfo:
        """Stream a local file up (multipart where large), checksummed, atomic: no half object is ever visible."""
        ...

    def download(self, uri: str, target: Path, *, sha256: str | None = None) -> ObjectInfo:
        """Stream to a local file; complete or absent, never half. A checksum that differs raises TemporaryError."""
        ...

    def copy(self, source: str, target: str) -> ObjectInfo:
        """Copy within this store, on the server where it can. Never a lock."""
        ...

    def local_path(self, uri: str) -> Path | None:
        """Where an object or folder lies on this machine, to be read in place; None when it does not."""
        ...

    def delete(self, uri: str) -> None:
        """Delete an object; deleting what is absent is success."""
        ...
