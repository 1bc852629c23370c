"""What must be known of all events before one of them can be used: which are superseded, which belong to chains.

Built while reading, with 40 bytes an event; asked when the events come back from disk.
"""

from __future__ import annotations

from array import array
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

from alignment_trainer.data.rows import Event, Signal, canonical
from alignment_trainer.data.spill import hash64

__all__ = ["EventIndex", "Standing", "context_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Standing(IntEnum):
    """Whether an event counts."""

    COUNTS = 0
    SUPERSEDED = 1
    """A later event has the same id."""
    REPEATED = 2
    """A later event is the same in everything: delivered twice."""


def context_of(event: Event) -> str:
    """What an event is looked at together with: its group, or its prompt where it has none."""
    return f"group:{event.group}" if event.group else f"prompt:{canonical(event.prompt)}"


class EventIndex:
    """Numbers events in the order of reading (files by URI, then lines)."""

    def __init__(self) -> None:
        self._ids, self._contents, self._from, self._to = (array("Q") for _ in range(4))
        self._times = array("q")
        self._standing: Any = None
        self._linked: Any = None

    def add(self, event: Event, context: str) -> int:
        """Take note of an event; returns its number."""
        self._ids.append(hash64(event.id or str(event.place)))
        other = event.edited or event.other or ""
        texts = (
            canonical(event.prompt),
            event.response,
            event.signal,
            other,
            event.actor,
            event.time,
            event.group,
        )
        self._contents.append(hash64(*texts))
        self._times.append(_microseconds(event.time) if event.time else -1)
        edit = event.signal is Signal.EDIT
        self._from.append(hash64(context, event.response) if edit else 0)
        self._to.append(hash64(context, event.edited or "") if edit else 0)
        return len(self._ids) - 1

    def finish(self) -> None:
        """All events are known now."""
        import numpy as np

        count = len(self._ids)
        self._standing = np.zeros(count, dtype=np.uint8)
        self._linked = np.zeros(count, dtype=bool)
        if not count:
            return
        ids, contents = np.asarray(self._ids), np.asarray(self._contents)
        order = np.lexsort((np.arange(count), np.asarray(self._times), ids))
        same = ids[order][:-1] == ids[order][1:]
        if same.any():
            # The newest of each id is the last of its run; walking back from it tells repetition from change.
            newest = np.empty(count, dtype=np.int64)
            current = order[-1]
            for position in range(count - 1, -1, -1):
                if position == count - 1 or not same[position]:
                    current = order[position]
                newest[order[position]] = current
            lost = newest != np.arange(count)
            repeated = lost & (contents == contents[newest])
            self._standing[lost] = Standing.SUPERSEDED
            self._standing[repeated] = Standing.REPEATED
        starts, ends = np.asarray(self._from), np.asarray(self._to)
        self._linked = (np.isin(ends, starts) | np.isin(starts, ends)) & (starts != 0)

    def standing(self, number: int) -> Standing:
        """Whether the event counts."""
        return Standing(int(self._standing[number]))

    def linked(self, number: int) -> bool:
        """True for an edit whose text another edit of its context goes on from, or that goes on from another's."""
        return bool(self._linked[number])


def _microseconds(time: str) -> int:
    """Since 1970. Of every year that a time may have; a time's digits as one number would pass 63 bits in the year 9224."""
    since = datetime.fromisoformat(time) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
