"""``Pairs``: TRL's preference format, standard (strings) and conversational (messages), prompt explicit or implied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment_trainer.data import fields
from alignment_trainer.data.rows import Kind, Origin, Pair, Place, RowError, Text, blank

__all__ = ["common", "read", "recognises"]

_ORIGINS = {"": None, "human": Origin.HUMAN, "synthetic": Origin.SYNTHETIC}


def recognises(row: dict[str, Any]) -> bool:
    """Rows with chosen and rejected."""
    return "chosen" in row and "rejected" in row


def read(row: dict[str, Any], place: Place) -> Pair:
    """A row ``{prompt?, chosen, rejected, …}``; without prompt both sides begin with it."""
    chosen, rejected = fields.text(row.get("chosen"), "chosen"), fields.text(row.get("rejected"), "rejected")
    prompt = fields.text(row["prompt"], "prompt") if row.get("prompt") is not None else None
    forms = {isinstance(side, str) for side in (prompt, chosen, rejected) if side is not None}
    if len(forms) != 1:
        raise RowError("MixedForms", "prompt, chosen and rejected must all be strings or all be messages")
    if prompt is None:
        prompt, chosen, rejected = _implied(chosen, rejected)
    return Pair(
        id=fields.optional_string(row, "id"),
        place=place,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        **common(row),
    )


def common(row: dict[str, Any]) -> dict[str, Any]:
    """The optional columns that every format may carry."""
    origin = _ORIGINS.get(fields.optional_string(row, "origin").lower(), "unknown")
    if origin == "unknown":
        raise RowError("OriginUnknown", "origin must be human or synthetic")
    kind = fields.optional_string(row, "kind") or Kind.PREFERENCE
    if kind not in set(Kind):
        raise RowError("KindUnknown", "kind must be edit or preference")
    out: dict[str, Any] = {
        name: fields.optional_string(row, name) for name in ("group", "actor", "cohort", "model")
    }
    out["time"] = fields.time(row)
    return out | {"weight": fields.weight(row), "kind": Kind(kind)} | ({"origin": origin} if origin else {})


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _implied(chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Split what both sides share off as the prompt, as TRL does for messages; for strings at a word's beginning."""
    length = _shared(chosen, rejected)
    if isinstance(chosen, str):
        while length > 0 and not chosen[length - 1].isspace():
            length -= 1
    prompt, rest, other = chosen[:length], chosen[length:], rejected[length:]
    if any(blank(text) for text in (prompt, rest, other)):
        raise RowError(
            "PromptMissing",
            "there is no prompt, and chosen and rejected share no beginning that could be one",
        )
    return prompt, rest, other
