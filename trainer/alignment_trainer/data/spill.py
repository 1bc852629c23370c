"""Rows that wait on disk, in buckets each of which fits in memory.

Called by assemble: rows are scattered by the hash of what belongs together and read back bucket by bucket, so
that memory does not grow with the number of rows. Holds plain tuples of the stage's own making in its own
scratch folder; nothing of it outlives the stage.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from alignment_trainer.data.rows import Event, Kind, Origin, Pair, Place, Signal

__all__ = ["BUCKETS", "Spill", "hash64", "pack_event", "pack_pair", "unpack_event", "unpack_pair"]

BUCKETS: Final = 64
"""At a million rows of 1 KB a bucket holds about 16 MB of text; at a hundred million it would still fit a large node."""
_BATCH_ROWS: Final = 128
_BUFFER_BYTES: Final = 32 * 1024 * 1024
"""Text held back over all buckets before everything is written: bounds memory when rows are huge."""


def hash64(*parts: str) -> int:
    """64 bits of a keyless BLAKE2b over the parts; the same on every machine."""
    return int.from_bytes(blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "big")


class Spill:
    """Rows in buckets on disk. key: any 64-bit number; its upper bits choose the bucket, so buckets sort as keys do."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{name}-{number:02d}" for number in range(BUCKETS)]
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._waiting: list[list[tuple[Any, ...]]] = [[] for _ in range(BUCKETS)]
        self._bytes = 0

    def add(self, key: int, row: tuple[Any, ...], size: int) -> None:
        """Put a row into the bucket of ``key``. size: about how many bytes its texts have."""
        number = key * BUCKETS >> 64
        waiting = self._waiting[number]
        waiting.append(row)
        self._bytes += size
        if self._bytes > _BUFFER_BYTES:
            for other in range(BUCKETS):
                self._flush(other)
            self._bytes = 0
        elif len(waiting) >= _BATCH_ROWS:
            self._flush(number)

    def bucket(self, number: int, *, keep: bool = False) -> Iterator[tuple[Any, ...]]:
        """Rows of one bucket in the order in which they came; the file goes with the last one unless kept."""
        self._flush(number)
        path = self._paths[number]
        if not path.exists():
            return
        with path.open("rb") as file:
            while True:
                try:
                    batch = marshal.load(file)  # noqa: S302  our own scratch, written by this process
                except EOFError:
                    break
                yield from batch
        if not keep:
            path.unlink()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All rows, bucket by bucket; the files stay."""
        for number in range(BUCKETS):
            yield from self.bucket(number, keep=True)

    def _flush(self, number: int) -> None:
        if self._waiting[number]:
            with self._paths[number].open("ab") as file:
                marshal.dump(self._waiting[number], file)
            self._waiting[number] = []


def pack_pair(pair: Pair) -> tuple[Any, ...]:
    """A pair as a plain tuple."""
    return (
        pair.id,
        pair.place.uri,
        pair.place.line,
        pair.prompt,
        pair.chosen,
        pair.rejected,
        str(pair.kind),
        pair.group,
        pair.actor,
        pair.cohort,
        pair.time,
        str(pair.origin),
        pair.weight,
        pair.event_ids,
        pair.model,
        pair.other_actors,
    )


def unpack_pair(row: tuple[Any, ...]) -> Pair:
    """The pair again."""
    (
        id_,
        uri,
        line,
        prompt,
        chosen,
        rejected,
        kind,
        group,
        actor,
        cohort,
        time,
        origin,
        weight,
        ids,
        model,
        others,
    ) = row
    return Pair(
        id_,
        Place(uri, line),
        prompt,
        chosen,
        rejected,
        Kind(kind),
        group,
        actor,
        cohort,
        time,
        Origin(origin),
        weight,
        ids,
        model,
        others,
    )


def pack_event(event: Event) -> tuple[Any, ...]:
    """An event as a plain tuple."""
    return (
        event.id,
        event.place.uri,
        event.place.line,
        event.prompt,
        event.response,
        str(event.signal),
        event.time,
        event.edited,
        event.other,
        event.group,
        event.actor,
        event.cohort,
        event.model,
        str(event.origin),
    )


def unpack_event(row: tuple[Any, ...]) -> Event:
    """The event again."""
    id_, uri, line, prompt, response, signal, time, edited, other, group, actor, cohort, model, origin = row
    return Event(
        id_,
        Place(uri, line),
        prompt,
        response,
        Signal(signal),
        time,
        edited,
        other,
        group,
        actor,
        cohort,
        model,
        Origin(origin),
    )
