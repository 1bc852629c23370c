"""Reads typed fields from a row's JSON object; every refusal names the field and never its text."""

from __future__ import annotations

import math
from typing import Any

from alignment_trainer.data.rows import RowError, Text

__all__ = ["messages", "optional_string", "string", "text", "weight"]

_ID_CHARACTERS = 512


def string(row: dict[str, Any], name: str) -> str:
    """A required string that is not only white space."""
    value = row.get(name)
    if not isinstance(value, str):
        raise RowError("FieldMissing" if value is None else "FieldType", f"{name} must be a string")
    if not value.strip():
        raise RowError("TextEmpty", f"{name} is empty")
    return value


def optional_string(row: dict[str, Any], name: str) -> str:
    """An optional short string or number (ids are often numbers); empty when absent."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError("FieldType", f"{name} must be a string")
    if len(str(value)) > _ID_CHARACTERS:
        raise RowError("FieldTooLong", f"{name} may have at most {_ID_CHARACTERS} characters")
    return str(value)


def weight(row: dict[str, Any]) -> float:
    """The optional weight of a row: finite, above 0; 1 when absent."""
    value = row.get("weight", 1.0)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise RowError("WeightInvalid", "weight must be a finite number above 0")
    return float(value)


def messages(value: object, name: str) -> list[dict[str, Any]]:
    """A list of chat messages with a role and content."""
    if not isinstance(value, list) or not value:
        raise RowError("FieldType", f"{name} must be a list of messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RowError("MessageInvalid", f"{name} has a message without a role")
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise RowError("MessageInvalid", f"{name} has a message whose content is not text")
        if content is None and not message.get("tool_calls"):
            raise RowError("MessageInvalid", f"{name} has a message without content")
    return value


def text(value: object, name: str) -> Text:
    """A string that is not only white space, or messages."""
    if isinstance(value, str):
        if not value.strip():
            raise RowError("TextEmpty", f"{name} is empty")
        return value
    if value is None:
        raise RowError("FieldMissing", f"{name} is missing")
    return messages(value, name)
