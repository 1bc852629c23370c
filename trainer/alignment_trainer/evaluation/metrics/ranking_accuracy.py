"""``rankingAccuracy``: does the candidate alone rank held-out pairs right more often than the champion alone?

Definition: share of pairs with log π(chosen) > log π(rejected), candidate's share minus champion's, paired; edits
are left out where there are other pairs. Unit: difference of ratios. Direction: above 0 is better. Source: arXiv
2405.19534, which also shows its limits.
"""

from __future__ import annotations

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics.preference_accuracy import left_out, wins
from alignment_trainer.evaluation.statistics import rate_difference

__all__ = ["ranking_accuracy"]


def ranking_accuracy(material: Material, _selector: str) -> Measurement:
    """Mean paired difference; clusters: groups."""
    candidate = wins(material.candidate_logps.chosen, material.candidate_logps.rejected)
    champion = wins(material.champion_logps.chosen, material.champion_logps.rejected)
    at, groups = material.told_by_likelihood, material.groups
    estimate = rate_difference(list((candidate - champion)[at]), [groups[i] for i in at])
    return Measurement(estimate, champion=float(champion[at].mean()), message=left_out(material))
