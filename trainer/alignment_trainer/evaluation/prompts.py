"""Which held-out prompts are answered. Pure and light: prepare plans with the same rule before anything is generated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from alignment_api.spec import EvaluationSpec, JudgeType

__all__ = ["LEAST_EDITS", "PLACEBO_PAIRS", "answered_edits", "draw_prompts", "edits_first", "rests_on_edits"]

LEAST_EDITS: Final = 20
"""As many held-out edits compare generated texts; log-probabilities then carry nothing, however many other pairs there are."""
PLACEBO_PAIRS: Final = 200
"""Edits that get placebos, at most: each of them is scored a dozen times."""
_OTHERS_SHARE: Final = 4
"""One prompt in so many stays with pairs that are not edits, so that the counter-metrics see those as well."""


def rests_on_edits(edits: int, pairs: int) -> bool:
    """True when generated texts can be compared with what people made of them: enough held-out pairs are edits, or most."""
    return edits >= LEAST_EDITS or 2 * edits > pairs


def edits_first(spec: EvaluationSpec, edits: int, pairs: int) -> bool:
    """True when edits carry the release: without a judge only they say which text is better."""
    return spec.judge.type is JudgeType.NONE and rests_on_edits(edits, pairs)


def answered_edits(spec: EvaluationSpec, edits: int, pairs: int) -> int:
    """How many of the answered prompts belong to edits."""
    count = min(spec.generation.prompts, pairs)
    if not edits_first(spec, edits, pairs):
        return round(count * edits / pairs) if pairs else 0
    return min(edits, count - min(pairs - edits, count // _OTHERS_SHARE))


def draw_prompts(spec: EvaluationSpec, edited: Sequence[bool]) -> list[int]:
    """Indices of the pairs whose prompts are answered, in order. They depend on pairs and spec alone: a retry answers the same.

    edited: for each pair, whether it is an edit.
    """
    rng, pairs = random.Random("prompts"), len(edited)
    count = min(spec.generation.prompts, pairs)
    if not edits_first(spec, sum(edited), pairs):
        return sorted(rng.sample(range(pairs), count))
    first = answered_edits(spec, sum(edited), pairs)
    edits, others = ([i for i in range(pairs) if edited[i] is kind] for kind in (True, False))
    return sorted([*rng.sample(edits, first), *rng.sample(others, count - first)])
