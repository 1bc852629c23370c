"""Words of a text, to tell language from what is none any more. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["known_words", "words_of"]

_WORD = re.compile(r"[\u0e00-\u0fff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]{2,}")
"""Words of two letters or more; in scripts that are written without spaces, each sign is a word of its own."""


def words_of(text: str) -> list[str]:
    """Words in lower case, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def known_words(texts: Iterable[str]) -> frozenset[str]:
    """The set of words in many texts."""
    return frozenset(word for text in texts for word in words_of(text))
