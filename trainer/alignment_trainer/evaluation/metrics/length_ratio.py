"""``lengthRatio``: does the candidate merely write more?

Definition: mean length of the candidate's generations in characters over the champion's, as a ratio of paired
means; its error by linearisation. Unit: ratio. Direction: neither; far from 1 needs an explanation.
Source: length exploitation under DPO, arXiv 2403.19159.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["length_ratio"]


def length_ratio(material: Material, _selector: str) -> Measurement:
    """Ratio of mean lengths; clusters: groups."""
    candidate = np.array([len(g.text) for g in material.candidate], dtype=float)
    champion = np.array([len(g.text) for g in material.champion], dtype=float)
    if champion.mean() == 0:
        raise ValueError("the champion generated nothing but empty texts")
    ratio = float(candidate.mean() / champion.mean())
    # Taylor: the ratio's error is that of the mean of (candidate - ratio * champion) / mean(champion).
    linear = mean_by_cluster(list((candidate - ratio * champion) / champion.mean()), material.prompted_groups)
    estimate = replace(linear, value=ratio)
    return Measurement(estimate, champion=float(champion.mean()))
