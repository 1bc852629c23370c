"""What to know about the data before anything is trained on it, in sentences for the status."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alignment_trainer.data.rows import Pair, plain

__all__ = ["data_warnings"]

_LENGTH_SHARE = 0.65


def data_warnings(train: Sequence[Pair], holdout: Sequence[Pair], neutralised: int) -> tuple[str, ...]:
    """Sentences; none when there is nothing to say."""
    found = []
    pairs = [*train, *holdout]
    if len(pairs) >= 100:
        longer = sum(len(plain(p.chosen)) > len(plain(p.rejected)) for p in pairs) / len(pairs)
        if abs(longer - 0.5) > _LENGTH_SHARE - 0.5 + math.sqrt(0.25 / len(pairs)):
            word = "longer" if longer > 0.5 else "shorter"
            share = max(longer, 1 - longer)
            found.append(
                f"in {share:.0%} of pairs the chosen side is {word}: the model will learn length as well"
            )
    if neutralised:
        found.append(f"{neutralised} rows spelled out special tokens of the tokenizer; they were broken up")
    return tuple(found)
