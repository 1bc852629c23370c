"""``OpenAI``: the preference format of OpenAI, Azure, Together and Fireworks.

``{input: {messages, tools?}, preferred_output: [message], non_preferred_output: [message]}``
"""

from __future__ import annotations

from typing import Any

from alignment_trainer.data import fields
from alignment_trainer.data.formats.pairs import common
from alignment_trainer.data.rows import Pair, Place, RowError

__all__ = ["read", "recognises"]


def recognises(row: dict[str, Any]) -> bool:
    """Rows with preferred_output and non_preferred_output."""
    return "preferred_output" in row and "non_preferred_output" in row


def read(row: dict[str, Any], place: Place) -> Pair:
    """A row as a conversational pair; tools travel with the first message, as chat templates expect them."""
    source = row.get("input")
    if not isinstance(source, dict):
        raise RowError("FieldMissing", "input must be an object with messages")
    prompt = [dict(message) for message in fields.messages(source.get("messages"), "input.messages")]
    if prompt[-1].get("role") == "assistant":
        raise RowError("PromptEndsWithAssistant", "the last message of input must not be the assistant's")
    tools = source.get("tools")
    if tools:
        if not isinstance(tools, list):
            raise RowError("FieldType", "input.tools must be a list")
        fields.refuse_deep(tools, "input.tools")
        prompt[0]["tools"] = tools
    sides = [_answer(row, name) for name in ("preferred_output", "non_preferred_output")]
    return Pair(
        id=fields.optional_string(row, "id"),
        place=place,
        prompt=prompt,
        chosen=sides[0],
        rejected=sides[1],
        **common(row),
    )


def _answer(row: dict[str, Any], name: str) -> list[dict[str, Any]]:
    answer = fields.messages(row.get(name), name)
    if len(answer) != 1 or answer[0]["role"] != "assistant":
        raise RowError("OutputInvalid", f"{name} must hold exactly one message of the assistant")
    return answer
