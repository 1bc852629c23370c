"""What a row is on its way through prepare: where it came from, the pair or event it holds, why it was refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "Event",
    "Kind",
    "Origin",
    "Pair",
    "Place",
    "RowError",
    "Signal",
    "Text",
    "blank",
    "canonical",
    "folded",
    "plain",
    "tools_of",
]

Text = str | list[dict[str, Any]]
"""A prompt or response: a string, or messages ``{role, content, …}``."""


class Kind(StrEnum):
    """How a preference came about."""

    EDIT = "edit"
    """Chosen is a person's edit of rejected."""
    PREFERENCE = "preference"


class Origin(StrEnum):
    """Who made the preference."""

    HUMAN = "Human"
    SYNTHETIC = "Synthetic"


class Signal(StrEnum):
    """What a person did with a generated text."""

    ACCEPT = "accept"
    EDIT = "edit"
    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    PREFER = "prefer"


class RowError(Exception):
    """A row that cannot be used. code: stable, CamelCase; message: one sentence without any of the row's text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a row stands: URI of its file and line (or row of a parquet file), from 1."""

    uri: str
    line: int

    def __str__(self) -> str:
        return f"{self.uri}:{self.line}"


@dataclass(frozen=True, slots=True)
class Event:
    """One approval event, as a product logs it. edited: with signal edit; other: the text that lost, with prefer."""

    id: str
    place: Place
    prompt: Text
    response: str
    signal: Signal
    time: str = ""
    edited: str | None = None
    other: str | None = None
    group: str = ""
    actor: str = ""
    cohort: str = ""
    model: str = ""
    origin: Origin = Origin.HUMAN


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference. prompt, chosen, rejected are all strings or all message lists. model: what wrote the responses."""

    id: str
    place: Place
    prompt: Text
    chosen: Text
    rejected: Text
    kind: Kind = Kind.PREFERENCE
    group: str = ""
    actor: str = ""
    cohort: str = ""
    time: str = ""
    origin: Origin = Origin.HUMAN
    weight: float = 1.0
    event_ids: tuple[str, ...] = field(default=())
    model: str = ""
    other_actors: tuple[str, ...] = field(default=())
    """Who else took part: later links of a chain, the other of two opposite signals."""

    @property
    def conversational(self) -> bool:
        """True when the sides are message lists."""
        return not isinstance(self.prompt, str)

    @property
    def synthetic(self) -> bool:
        """True when a model made the preference."""
        return self.origin is Origin.SYNTHETIC

    @property
    def conversation(self) -> str:
        """The first thing the person said, normalised: prompts that continue one conversation share it."""
        first = self.prompt if isinstance(self.prompt, str) else _first_user_turn(self.prompt)
        return folded(first)

    @property
    def question(self) -> str:
        """The whole prompt, normalised: what must not be on both sides of the split."""
        return folded(plain(self.prompt))

    @property
    def content(self) -> tuple[str, str, str]:
        """Prompt, chosen and rejected as canonical strings: equal strings, equal pair."""
        return canonical(self.prompt), canonical(self.chosen), canonical(self.rejected)

    @property
    def pair_id(self) -> str:
        """Content address of the pair: 16 hex digits of a sha256."""
        return hashlib.sha256("\x1f".join(self.content).encode()).hexdigest()[:16]

    @property
    def pair_number(self) -> int:
        """The pair id as a number of 64 bits."""
        return int(self.pair_id, 16)


def canonical(text: Text) -> str:
    """One string for a text, whatever its form."""
    return text if isinstance(text, str) else json.dumps(text, sort_keys=True, ensure_ascii=False)


def tools_of(prompt: Text) -> list[dict[str, Any]] | None:
    """The tools that a conversation was held with: chat templates take them beside the messages."""
    return None if isinstance(prompt, str) or not prompt else prompt[0].get("tools")


def folded(text: str) -> str:
    """A text without differences of case and white space."""
    return " ".join(text.split()).casefold()


def plain(text: Text) -> str:
    """The words of a text: the string, or the messages' contents joined by blank lines."""
    return (
        text if isinstance(text, str) else "\n\n".join(str(message.get("content") or "") for message in text)
    )


def blank(text: Text) -> bool:
    """True when a text says nothing: white space only, or messages with neither content nor tool calls."""
    return not plain(text).strip() and (isinstance(text, str) or not any(m.get("tool_calls") for m in text))


def _first_user_turn(messages: list[dict[str, Any]]) -> str:
    for message in messages:
        if message.get("role") == "user":
            return str(message.get("content") or "")
    return plain(messages)
