"""``chosenLogRatio``: has the chosen side become less likely (likelihood displacement)?

Definition: mean of (log π_candidate − log π_champion) of chosen answers per token. Unit: nats per token. Direction:
above 0 is better; clearly below 0 the candidate learned to avoid both sides. Source: arXiv 2410.08847, 2402.13228.
"""

from __future__ import annotations

import numpy as np

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["chosen_log_ratio"]


def chosen_log_ratio(material: Material, _selector: str) -> Measurement:
    """Mean log-ratio per token of the chosen sides; clusters: groups."""
    ratios = (material.candidate_logps.chosen - material.champion_logps.chosen) / np.maximum(
        material.chosen_tokens, 1
    )
    return Measurement(mean_by_cluster(list(ratios), material.groups), champion=0.0)
