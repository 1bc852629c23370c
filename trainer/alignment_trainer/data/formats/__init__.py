"""Row formats: how a JSON object becomes a pair or an event. A new format is one file and one entry here.

``Auto`` asks the formats in this order which one recognises a row; the most telling keys come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from alignment_api.spec import SourceFormat
from alignment_trainer.data.formats import events, openai, pairs, transcript
from alignment_trainer.data.rows import Event, Pair, Place, RowError

__all__ = ["FIELDS", "FORMATS", "RowFormat", "read_row"]


@dataclass(frozen=True)
class RowFormat:
    """recognises: by its keys alone; read: raises RowError when the row is not what its keys promise.

    fields: its own, beside the optional ones of every format.
    """

    recognises: Callable[[dict[str, Any]], bool]
    read: Callable[[dict[str, Any], Place], Pair | Event]
    fields: tuple[str, ...]


FORMATS: Final[dict[SourceFormat, RowFormat]] = {
    SourceFormat.EVENTS: RowFormat(
        events.recognises, events.read, ("prompt", "response", "signal", "edited", "other")
    ),
    SourceFormat.OPENAI: RowFormat(
        openai.recognises, openai.read, ("input", "preferred_output", "non_preferred_output")
    ),
    SourceFormat.TRANSCRIPT: RowFormat(transcript.recognises, transcript.read, ("chosen", "rejected")),
    SourceFormat.PAIRS: RowFormat(pairs.recognises, pairs.read, ("prompt", "chosen", "rejected")),
}

FIELDS: Final = frozenset(
    ("id", "group", "actor", "cohort", "time", "origin", "weight", "model", "kind")
).union(*(known.fields for known in FORMATS.values()))
"""Every field that is read from a row. Other names may be data: a table without a header has texts for names."""


def read_row(row: object, place: Place, wanted: SourceFormat) -> Pair | Event:
    """A row as a pair or an event. Raises RowError."""
    if not isinstance(row, dict):
        raise RowError(
            "NotAnObject", "a row must be a JSON object; a file holds one object a line, not an array"
        )
    if wanted is not SourceFormat.AUTO:
        return FORMATS[wanted].read(row, place)
    for known in FORMATS.values():
        if known.recognises(row):
            return known.read(row, place)
    found = ", ".join(sorted(FIELDS.intersection(row)))
    what = f"no format is told by {found} alone" if found else "no format knows any of the row's fields"
    raise RowError("FormatUnknown", f"{what}; docs/data.md has those that each needs")
