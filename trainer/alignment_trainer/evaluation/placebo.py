"""Placebo edits: the same draft edited to no purpose, in kind like the person's edit and as likely to the champion.

The champion's own drafts are likely to it and edits of them are not, so whatever flattens a model (a higher temperature,
noise, a general aversion to its drafts) raises edits over drafts without having learned anything. It raises a
placebo edit just as much. Matched from both sides: of several placebos per pair the one is taken that keeps the mean
difference in log-probability at nought (docs/gate.md has the measurement).
"""

from __future__ import annotations

import difflib
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CANDIDATES", "Pool", "match", "placebo_edits"]

CANDIDATES: Final = 16
"""Placebos made for each pair, to choose one from."""
_SCALES: Final = (0.25, 0.5, 1.0, 1.5, 0.25, 0.5, 1.0, 2.0)
"""Size of a placebo relative to the person's edit: smaller ones are likelier, larger ones less likely."""
_NEAR_NATS: Final = 4.0
_NEAR_SHARE: Final = 0.1


class Pool:
    """Texts to take words from. ``span`` gives consecutive words of one text, where it can after the same word."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text.split(" ") for text in texts]
        self._after: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, words in enumerate(self._texts):
            for at, word in enumerate(words[:-1]):
                self._after[word].append((number, at + 1))

    def __bool__(self) -> bool:
        return bool(self._texts)

    def span(self, before: str | None, length: int, rng: random.Random) -> list[str]:
        """``length`` words; following ``before`` where some text has it, else from anywhere."""
        places = self._after.get(before, []) if before is not None else []
        if places:
            number, start = rng.choice(places)
        else:
            number = rng.randrange(len(self._texts))
            start = rng.randrange(max(1, len(self._texts[number]) - length + 1))
        return self._texts[number][start : start + length]


def placebo_edits(
    rejected: str, chosen: str, pool: Pool, rng: random.Random, count: int = CANDIDATES
) -> list[str]:
    """Up to ``count`` distinct placebos of ``rejected``: replacements, insertions and deletions as in the person's edit.

    Half of them take words that can follow where they are put (language, but not about this), half take any.
    """
    before, after = rejected.split(" "), chosen.split(" ")
    operations = [
        (tag, i2 - i1, j2 - j1)
        for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    if not operations or not pool:
        return []
    found: dict[str, None] = {}
    for turn in range(4 * count):
        scale = _SCALES[turn // 2 % len(_SCALES)]
        text = _edited(before, operations, scale, pool, rng, fitting=turn % 2 == 0)
        if text.strip() and text not in (rejected, chosen):
            found[text] = None
        if len(found) == count:
            break
    return list(found)


def _edited(
    before: list[str],
    operations: Sequence[tuple[str, int, int]],
    scale: float,
    pool: Pool,
    rng: random.Random,
    *,
    fitting: bool,
) -> str:
    words = list(before)
    for _ in range(max(1, round(scale * len(operations)))):
        _, removed, added = rng.choice(operations)
        if scale < 1:
            removed, added = (max(1, round(scale * n)) if n else 0 for n in (removed, added))
        at = rng.randrange(max(1, len(words) - removed + 1))
        follows = words[at - 1] if fitting and at else None
        words[at : at + removed] = pool.span(follows, added, rng) if added else []
    return " ".join(words)


def match(chosen: NDArray[np.float64], offered: Sequence[NDArray[np.float64]]) -> list[int | None]:
    """Which placebo stands for each pair: near in log-probability, and together with a mean difference near nought.

    chosen: log-probability of each chosen side under the champion, nats. offered: those of each pair's placebos. None
    where none is within 4 nats or a tenth of the chosen side's.
    """
    taken: list[int | None] = []
    total = 0.0
    for target, values in zip(chosen, offered, strict=True):
        gaps = values - target
        near = np.flatnonzero(np.abs(gaps) <= max(_NEAR_NATS, _NEAR_SHARE * abs(float(target))))
        if len(near) == 0:
            taken.append(None)
            continue
        best = int(near[np.argmin(np.abs(gaps[near] + total))])
        taken.append(best)
        total += float(gaps[best])
    return taken
