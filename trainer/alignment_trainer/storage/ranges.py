"""An object as a file that can be sought in: for formats whose index is at the end. Reads what is asked for, no more."""

from __future__ import annotations

import io
from typing import Any

from alignment_trainer.storage.store import ObjectInfo, ObjectStore

__all__ = ["RangedObject"]


class RangedObject(io.RawIOBase):
    """A stored object, read by ranges. info: as it was listed; its size is believed."""

    def __init__(self, info: ObjectInfo, store: ObjectStore) -> None:
        self._info = info
        self._store = store
        self._position = 0

    def readable(self) -> bool:
        """True, always."""
        return True

    def seekable(self) -> bool:
        """True, always."""
        return True

    def tell(self) -> int:
        """Current position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; returns the new position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; 0 at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._info.size - self._position)
        done = 0
        if wanted > 0:
            with self._store.open(self._info.uri, offset=self._position, length=wanted) as stream:
                while done < wanted and (data := stream.read(wanted - done)):
                    view[done : done + len(data)] = data
                    done += len(data)
        self._position += done
        return done
