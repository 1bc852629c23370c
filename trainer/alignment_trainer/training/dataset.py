"""The train side cut in two: the pairs to train on, and the slice on which the checkpoint is chosen.

Nothing here holds the pairs. They are read from their file again at each pass, so that memory does not grow with them.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from alignment_trainer.data.rows import Kind, Pair

__all__ = ["Part", "mostly_edits", "select_slice"]

_log = logging.getLogger(__name__)
_SMALLEST_SLICE: Final = 16
"""Fewer pairs than this choose a checkpoint by chance; then there is no slice and the last one counts."""
_LARGEST_SLICE: Final = 2
"""Times the wanted share: a group that would take the slice above it is trained on, whatever its hash."""


@dataclass(frozen=True)
class Part:
    """Some of the pairs of ``source``, which can be iterated again and again. count: how many.

    apart: places in the hash of the groups that are set apart; others: this part is what they leave.
    """

    source: Iterable[Pair]
    count: int
    apart: frozenset[float]
    others: bool

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Pair]:
        return (pair for pair in self.source if (_place(pair) in self.apart) is not self.others)


def mostly_edits(pairs: Iterable[Pair]) -> bool:
    """True when more than half of the pairs are edits."""
    kinds = Counter(pair.kind is Kind.EDIT for pair in pairs)
    return kinds[True] > kinds[False]


def select_slice(pairs: Iterable[Pair], fraction: float) -> tuple[Part, Part]:
    """Pairs to train on, and those set apart to choose the checkpoint; groups stay whole, the gate's holdout untouched.

    pairs: a source that can be iterated again and again.
    """
    total, sizes = 0, Counter[float]()
    for pair in pairs:
        total += 1
        if (place := _place(pair)) < fraction:
            sizes[place] += 1
    apart, count = set[float](), 0
    for place in sorted(sizes):
        if count + sizes[place] <= _LARGEST_SLICE * fraction * total:
            apart.add(place)
            count += sizes[place]
        else:
            _log.warning(
                "one group has %d of %d pairs, too many to be set apart for choosing the checkpoint: it is trained on",
                sizes[place],
                total,
            )
    if count < _SMALLEST_SLICE:
        apart, count = set(), 0
    chosen = frozenset(apart)
    return Part(pairs, total - count, chosen, others=True), Part(pairs, count, chosen, others=False)


def _place(pair: Pair) -> float:
    """Of the pair's group, uniform between 0 and 1."""
    key = pair.group or pair.conversation
    return (
        int.from_bytes(hashlib.blake2b(b"selection:" + key.encode(), digest_size=8).digest(), "big") / 2**64
    )
