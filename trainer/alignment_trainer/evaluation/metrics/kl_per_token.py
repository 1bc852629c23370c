"""``klPerToken``: how far has the candidate moved from the champion, on what it writes itself?

Definition: mean over generations of (log π_candidate − log π_champion) per token of the candidate's own samples: an
estimate of KL(candidate || champion) per token where they are sampled at temperature 1. At a lower temperature the
samples are not the candidate's distribution: small divergences then come out too low, also below 0. Unit: nats per token. Direction: lower is nearer.
Source: over-optimisation grows with it, arXiv 2406.02900.
"""

from __future__ import annotations

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["kl_per_token"]


def kl_per_token(material: Material, _selector: str) -> Measurement:
    """Mean log-ratio per token of the candidate's samples; clusters: groups."""
    ratios = [(g.logp_own - g.logp_champion) / max(g.tokens, 1) for g in material.candidate]
    return Measurement(mean_by_cluster(ratios, material.prompted_groups), champion=0.0)
