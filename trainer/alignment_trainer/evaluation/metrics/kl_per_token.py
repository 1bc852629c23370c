"""``klPerToken``: how far has the candidate moved from the champion, where its own texts lead?

Definition: KL(candidate || champion) of the next-token distributions (at temperature 1, summed over the vocabulary) at
the positions of a generation of the candidate, per token of it; mean over generations. Unit: nats per token; 0 for
equal models, never below. Direction: lower is nearer. The positions are those that the candidate visits when it writes
at the temperature of ``evaluation.generation``: at 1 the mean estimates the divergence of whole texts; below 1, the
divergence along texts that are more likely than most. Models in bfloat16 differ by rounding alone by about a thousandth.
Source: over-optimisation grows with it, arXiv 2406.02900; summing over the vocabulary, arXiv 2504.10637.
"""

from __future__ import annotations

import math

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["kl_per_token"]


def kl_per_token(material: Material, _selector: str) -> Measurement:
    """Mean divergence per token at the positions of the candidate's samples; clusters: groups."""
    divergences = material.drift.divergences
    if any(math.isnan(divergence) for divergence in divergences):
        return Measurement.unavailable(
            "the vocabularies of candidate and champion differ in size: distributions over different tokens have no divergence"
        )
    per_token = [
        float(divergence) / max(generation.tokens, 1)
        for divergence, generation in zip(divergences, material.candidate, strict=True)
    ]
    return Measurement(mean_by_cluster(per_token, material.prompted_groups), champion=0.0)
