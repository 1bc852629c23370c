"""Checks on pairs, one at a time and against each other: identical sides, over-long rows, duplicates, contradictions.

What is dropped is told to a callback with the pair and a reason, so that the funnel adds up.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from alignment_api.spec import Contradictions
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.rows import Pair, Text, plain

__all__ = ["Drop", "deduplicated", "normalised", "usable", "without_contradictions"]

Drop = Callable[[Pair, str, str], None]
"""Called with a pair that is left out, the reason and a sentence."""

_KEPT_CONTROLS = "\n\t"


def normalised(pair: Pair, special: frozenset[str], account: Account) -> Pair:
    """The pair in Unicode NFC, with Unix line ends, without other control characters and lone surrogates.

    special: tokens that steer the model (end of text, turn markers); where a text spells one out it is broken up by
    a zero-width space, and the row counted, so that data cannot pose as a template.
    """
    prompt, chosen, rejected = (_normal(text) for text in (pair.prompt, pair.chosen, pair.rejected))
    if special and any(token in text for token in special for text in map(plain, (prompt, chosen, rejected))):
        account.neutralised += 1
        prompt, chosen, rejected = (
            _mapped(text, lambda t: _neutral(t, special)) for text in (prompt, chosen, rejected)
        )
    return replace(pair, prompt=prompt, chosen=chosen, rejected=rejected)


def _normal(text: Text) -> Text:
    return _mapped(text, _normal_string)


def _mapped(text: Text, change: Callable[[str], str]) -> Text:
    if isinstance(text, str):
        return change(text)
    return [{**m, "content": change(m["content"])} if isinstance(m.get("content"), str) else m for m in text]


def _neutral(text: str, special: frozenset[str]) -> str:
    for token in sorted(special, key=len, reverse=True):
        text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
    return text


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
