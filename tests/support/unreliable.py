"""A store that dies: what it was asked to change up to a point is done, the rest never is.

For trying every crash point of whatever writes through an ObjectStore.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from alignment_trainer.storage.store import ObjectStore

_CHANGES = ("put", "upload", "copy", "delete")


class KilledError(BaseException):
    """Stands for SIGKILL: not an Exception, so that nobody's clean-up catches it by mistake."""


class Killing:
    """Wraps a store; allows ``after`` changes, then raises KilledError instead of the next one, for ever.

    With ``late`` the change that kills is done before the raise: the process died before it heard the answer.
    """

    def __init__(self, store: ObjectStore, *, after: int, late: bool = False) -> None:
        self._store = store
        self._left = after
        self._late = late
        self.killed = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name not in _CHANGES:
            return real

        def change(*args: Any, **kwargs: Any) -> Any:
            if self._left > 0 and not self.killed:
                self._left -= 1
                return real(*args, **kwargs)
            if self._late and not self.killed:
                real(*args, **kwargs)
            self.killed = True
            raise KilledError(name)

        return change

    @contextmanager
    def as_store(self) -> Iterator[ObjectStore]:
        """Typed as what it stands for."""
        yield cast("ObjectStore", self)
