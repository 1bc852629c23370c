"""``Transcript``: two whole Human/Assistant texts that share their beginning, cut at the last shared assistant marker.

The longest common string would eat the start of the answer wherever both answers begin alike; the marker
never does. Pairs that part earlier than the last assistant turn are not two answers to one prompt.
"""

from __future__ import annotations

import re
from typing import Any, Final

from alignment_trainer.data import fields
from alignment_trainer.data.formats.pairs import common
from alignment_trainer.data.rows import Pair, Place, RowError

__all__ = ["read", "recognises"]

_MARKER: Final = re.compile(r"(?:^|\n\s*\n?)(Human|Assistant):")
_ASSISTANT: Final = re.compile(r"\n\s*\n?Assistant:")


def recognises(row: dict[str, Any]) -> bool:
    """Rows without a prompt whose sides are strings with Human and Assistant markers."""
    sides = (row.get("chosen"), row.get("rejected"))
    return row.get("prompt") is None and all(
        isinstance(side, str) and _ASSISTANT.search(side) and "Human:" in side for side in sides
    )


def read(row: dict[str, Any], place: Place) -> Pair:
    """A row as a conversational pair."""
    chosen, rejected = fields.string(row, "chosen"), fields.string(row, "rejected")
    cuts = [_last_answer(side, name) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    prompts = [side[:cut].rstrip() for side, cut in zip((chosen, rejected), cuts, strict=True)]
    if prompts[0] != prompts[1]:
        raise RowError("TranscriptsPart", "the two transcripts part before their last assistant turn")
    answers = [
        side[cut:].split("Assistant:", 1)[1].strip()
        for side, cut in zip((chosen, rejected), cuts, strict=True)
    ]
    if not all(answers):
        raise RowError("TextEmpty", "the last assistant turn is empty")
    sides = [[{"role": "assistant", "content": answer}] for answer in answers]
    prompt = _turns(prompts[0])
    return Pair(
        id=fields.optional_string(row, "id"),
        place=place,
        prompt=prompt,
        chosen=sides[0],
        rejected=sides[1],
        **common(row),
    )


def _last_answer(side: str, name: str) -> int:
    found = list(_ASSISTANT.finditer(side))
    if not found:
        raise RowError("TranscriptInvalid", f"{name} has no assistant turn")
    return found[-1].start()


def _turns(prompt: str) -> list[dict[str, Any]]:
    roles = {"Human": "user", "Assistant": "assistant"}
    parts = _MARKER.split(prompt)
    turns = [
        {"role": roles[marker], "content": content.strip()}
        for marker, content in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if parts[0].strip():
        turns.insert(0, {"role": "system", "content": parts[0].strip()})
    if not turns or turns[-1]["role"] != "user":
        raise RowError("TranscriptInvalid", "the turn before the answer must be the human's")
    return turns
