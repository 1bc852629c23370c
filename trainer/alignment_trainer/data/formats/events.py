"""``Events``: what a product logs when a person accepts, edits or flags a generated text."""

from __future__ import annotations

from typing import Any

from alignment_trainer.data import fields
from alignment_trainer.data.formats.pairs import common
from alignment_trainer.data.rows import Event, Origin, Place, RowError, Signal

__all__ = ["read", "recognises"]


def recognises(row: dict[str, Any]) -> bool:
    """Rows with a signal and a response."""
    return "signal" in row and "response" in row


def read(row: dict[str, Any], place: Place) -> Event:
    """A row ``{id, time, prompt, response, signal, edited?, other?, actor?, group?, cohort?}``."""
    name = fields.string(row, "signal")
    if name not in set(Signal):
        raise RowError("SignalUnknown", f"signal must be one of {', '.join(Signal)}")
    signal = Signal(name)
    shared = common(row)
    return Event(
        id=fields.optional_string(row, "id"),
        place=place,
        prompt=fields.text(row.get("prompt"), "prompt"),
        response=fields.string(row, "response"),
        signal=signal,
        time=shared["time"],
        edited=fields.string(row, "edited") if signal is Signal.EDIT else None,
        other=fields.string(row, "other") if signal is Signal.PREFER else None,
        group=shared["group"],
        actor=shared["actor"],
        cohort=shared["cohort"],
        model=shared["model"],
        origin=shared.get("origin", Origin.HUMAN),
    )
