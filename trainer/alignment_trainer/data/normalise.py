"""Texts made comparable and harmless: one Unicode form, no control characters, no token that poses as a template."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from alignment_trainer.data.rows import Event, Pair, Text

__all__ = ["Normaliser", "mapped"]

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What normalising takes out, after line ends became one kind: all control characters but tab and line feed."""
_BREAK: Final = "\u200b"


@dataclass
class Normaliser:
    """Normalises rows and counts those it changed beyond Unicode form.

    special: the tokenizer's special tokens (end of text, turn markers). Where a text spells one out it is broken
    up by a zero-width space, so that data cannot pose as a template.
    """

    special: Iterable[str] = ()
    neutralised: int = 0
    controls: int = 0
    _tokens: list[str] = field(init=False)
    _pattern: re.Pattern[str] | None = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = sorted((t for t in self.special if len(t) > 1), key=lambda t: (-len(t), t))
        self._pattern = re.compile("|".join(map(re.escape, self._tokens))) if self._tokens else None

    def pair(self, pair: Pair) -> Pair:
        """The pair, normalised."""
        prompt, chosen, rejected = self._texts(pair.prompt, pair.chosen, pair.rejected)
        if prompt is pair.prompt and chosen is pair.chosen and rejected is pair.rejected:
            return pair
        return replace(pair, prompt=prompt, chosen=chosen, rejected=rejected)

    def event(self, event: Event) -> Event:
        """The event, normalised."""
        texts = self._texts(event.prompt, event.response, event.edited or "", event.other or "")
        prompt, response, edited, other = texts
        return replace(
            event,
            prompt=prompt,
            response=str(response),
            edited=None if event.edited is None else str(edited),
            other=None if event.other is None else str(other),
        )

    def _texts(self, *texts: Text) -> list[Text]:
        seen = [False, False]

        def change(text: str) -> str:
            if text.isascii() and text.isprintable():
                clean = text
            else:
                clean = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
                without = _CONTROLS.sub("", clean)
                seen[0] = seen[0] or len(without) != len(clean)
                clean = without
            if self._pattern is not None and self._pattern.search(clean):
                seen[1] = True
                clean = self._broken(clean)
            return clean

        out = [mapped(text, change) for text in texts]
        self.controls += seen[0]
        self.neutralised += seen[1]
        return out

    def _broken(self, text: str) -> str:
        # One token after the other: taking them in one pass would miss a token that begins inside another.
        for token in self._tokens:
            text = text.replace(token, f"{token[0]}{_BREAK}{token[1:]}")
        return text


def mapped(text: Text, change: Callable[[str], str]) -> Text:
    """A text with every string in it changed: of messages everything but the names of fields and roles."""
    if isinstance(text, str):
        return change(text)
    return [
        {key: value if key == "role" else _mapped(value, change) for key, value in message.items()}
        for message in text
    ]


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return value
