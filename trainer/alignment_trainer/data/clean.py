"""Checks on pairs, one at a time and against each other: identical sides, over-long rows, duplicates, contradictions.

What is dropped is told to a callback with the pair and a reason, so that the funnel adds up.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from alignment_api.spec import Contradictions
from alignment_trainer.data.rows import Pair, Text

__all__ = ["Drop", "deduplicated", "normalised", "usable", "without_contradictions"]

Drop = Callable[[Pair, str, str], None]
"""Called with a pair that is left out, the reason and a sentence."""

_KEPT_CONTROLS = "\n\t"


def normalised(pair: Pair) -> Pair:
    """The pair in Unicode NFC, with Unix line ends, without other control characters and lone surrogates."""
    return replace(
        pair, prompt=_normal(pair.prompt), chosen=_normal(pair.chosen), rejected=_normal(pair.rejected)
    )


def _normal(text: Text) -> Text:
    if isinstance(text, str):
        return _normal_string(text)
    return [
        {**m, "content": _normal_string(m["content"])} if isinstance(m.get("content"), str) else m
        for m in text
    ]


def _normal_string(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(c for c in text if c in _KEPT_CONTROLS or unicodedata.category(c) not in ("Cc", "Cs"))


def usable(pairs: Iterable[Pair], fits: Callable[[Pair], bool], drop: Drop) -> Iterator[Pair]:
    """Pairs whose sides differ and that fit ``maxLength``."""
    for pair in pairs:
        _, chosen, rejected = pair.content
        if chosen.split() == rejected.split():
            drop(pair, "identicalSides", "chosen and rejected are the same text")
        elif not fits(pair):
            drop(pair, "overLong", "prompt and longer answer have more tokens than training.maxLength")
        else:
            yield pair


def deduplicated(pairs: Iterable[Pair], drop: Drop) -> list[Pair]:
    """Each content once: the first by group and place, whatever the order of reading."""
    seen: set[str] = set()
    kept = []
    for pair in sorted(pairs, key=lambda p: (p.pair_id, p.group, p.place)):
        if pair.pair_id in seen:
            drop(pair, "duplicate", "the same prompt, chosen and rejected as another row")
        else:
            seen.add(pair.pair_id)
            kept.append(pair)
    return kept


def without_contradictions(pairs: list[Pair], policy: Contradictions, drop: Drop) -> list[Pair]:
    """Pairs of which the opposite is not there too; both of a contradiction go unless the policy keeps them."""
    if policy is Contradictions.KEEP:
        return pairs
    contents = {pair.content for pair in pairs}
    kept = []
    for pair in pairs:
        prompt, chosen, rejected = pair.content
        if (prompt, rejected, chosen) in contents:
            drop(pair, "contradiction", "the same two answers are preferred both ways")
        else:
            kept.append(pair)
    return kept
