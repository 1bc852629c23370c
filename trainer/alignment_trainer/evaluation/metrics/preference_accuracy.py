"""``preferenceAccuracy``: do the chosen sides gain more log-probability over the champion than the rejected sides?

Definition: share of held-out pairs with Δ(chosen) > Δ(rejected), Δ = log π_candidate − log π_champion summed over
answer tokens; ties count half. Unit: ratio. Direction: above one half is better. Not a win rate: on edits of the
model's own drafts a mere change of temperature scores near 1 (docs/gate.md), so it never releases a model there, and
edits are left out wherever there are other pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import proportion

__all__ = ["left_out", "preference_accuracy", "preferred", "wins"]

_TIE = 1e-6
"""Log-probabilities nearer than this, in nats, are equal: rounding of float32 sums."""


def preference_accuracy(material: Material, _selector: str) -> Measurement:
    """Share of pairs ranked right relative to the champion; clusters: groups."""
    at, groups = material.told_by_likelihood, material.groups
    estimate = proportion(list(preferred(material)[at]), [groups[i] for i in at])
    return Measurement(estimate, message=left_out(material))


def left_out(material: Material) -> str | None:
    """Remark on the edits that do not count; None where none is left out."""
    edits = len(material.pairs) - len(material.told_by_likelihood)
    return f"{edits} pairs that are edits left out" if edits else None


def preferred(material: Material) -> NDArray[np.float64]:
    """1, ½ or 0 for each pair."""
    chosen = material.candidate_logps.chosen - material.champion_logps.chosen
    rejected = material.candidate_logps.rejected - material.champion_logps.rejected
    return wins(chosen, rejected)


def wins(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where ``first`` is larger, 0 where it is smaller, ½ where they are equal but for rounding."""
    return np.where(np.abs(first - second) <= _TIE, 0.5, (first > second).astype(float))
