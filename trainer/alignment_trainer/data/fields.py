"""Reads typed fields from a row's JSON object; every refusal names the field and never its text."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime
from typing import Any, Final

from alignment_trainer.data.rows import RowError, Text

__all__ = [
    "LONGEST_NAME",
    "messages",
    "name_form",
    "optional_string",
    "refuse_deep",
    "string",
    "text",
    "time",
    "weight",
]

LONGEST_NAME: Final = 512
"""Characters of an id, a group or an actor."""

_LONGEST_NUMBER: Final = 10**LONGEST_NAME
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS: Final = 100_000_000_000
"""Seconds since 1970 beyond this (the year 5138) are meant as milliseconds."""
_DEEPEST: Final = 64
"""Levels of lists and objects in a message or tool: what walks through them later recurses."""


def string(row: dict[str, Any], name: str) -> str:
    """A required string that is not only white space."""
    value = row.get(name)
    if not isinstance(value, str):
        raise RowError("FieldMissing" if value is None else "FieldType", f"{name} must be a string")
    if not value.strip():
        raise RowError("TextEmpty", f"{name} is empty")
    return value


def optional_string(row: dict[str, Any], name: str) -> str:
    """An optional short string or number (ids are often numbers) in its :func:`name_form`; empty when absent."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError("FieldType", f"{name} must be a string")
    # Huge integers are not turned into text: that takes long, and beyond some length Python refuses it.
    if abs(value) >= _LONGEST_NUMBER if isinstance(value, int) else len(value) > LONGEST_NAME:
        raise RowError("FieldTooLong", f"{name} may have at most {LONGEST_NAME} characters")
    return name_form(str(value))


def name_form(name: str) -> str:
    """The one form in which names are compared: what reads the same is one person, on one side of the split."""
    return name.strip() if name.isascii() else unicodedata.normalize("NFC", name).strip()


def weight(row: dict[str, Any]) -> float:
    """The optional weight of a row: finite, above 0; 1 when absent."""
    value = row.get("weight", 1.0)
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise RowError("WeightInvalid", "weight must be a finite number above 0")
    return number


def time(row: dict[str, Any]) -> str:
    """The optional time of a row (ISO 8601, or seconds or milliseconds since 1970) as UTC text that sorts; empty when absent.

    A time without a zone is taken as UTC.
    """
    value = row.get("time")
    if value is None or value == "":
        return ""
    try:
        moment = _moment(value)
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None or moment < _EARLIEST:
        raise RowError("TimeInvalid", "time must be ISO 8601 or seconds since 1970, not before 1970")
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(value: object) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return datetime.fromtimestamp(value / 1000 if abs(value) > _MILLISECONDS else value, UTC)


def messages(value: object, name: str) -> list[dict[str, Any]]:
    """A list of chat messages with a role and content."""
    if not isinstance(value, list) or not value:
        raise RowError("FieldType", f"{name} must be a list of messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RowError("MessageInvalid", f"{name} has a message without a role")
        if message["role"] not in _ROLES:
            raise RowError(
                "RoleUnknown", f"{name} has a message whose role is none of {', '.join(sorted(_ROLES))}"
            )
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise RowError("MessageInvalid", f"{name} has a message whose content is not text")
        if content is None and not message.get("tool_calls"):
            raise RowError("MessageInvalid", f"{name} has a message without content")
        refuse_deep([field for field in message.values() if not isinstance(field, str)], name)
    return value


def refuse_deep(values: list[Any], name: str) -> None:
    """Raise RowError where lists and objects stand within each other deeper than any message or tool needs."""
    for _ in range(_DEEPEST):
        if not values:
            return
        inner = (v.values() if isinstance(v, dict) else v for v in values if isinstance(v, dict | list))
        values = [value for some in inner for value in some]
    raise RowError("MessageInvalid", f"{name} is nested more than {_DEEPEST} levels deep")


def text(value: object, name: str) -> Text:
    """A string that is not only white space, or messages."""
    if isinstance(value, str):
        if not value.strip():
            raise RowError("TextEmpty", f"{name} is empty")
        return value
    if value is None:
        raise RowError("FieldMissing", f"{name} is missing")
    if not isinstance(value, list):
        raise RowError("FieldType", f"{name} must be a string or a list of messages")
    return messages(value, name)
