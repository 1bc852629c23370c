"""``fluencyGap``: does the champion find the candidate's text much odder than what people ended up with?

Definition: the champion's loss per token on the candidate's generations, minus its loss per token on the people's
final texts, paired by prompt. Unit: nats per token. Direction: lower is better; a candidate that writes as people
do stands near or below 0, broken language far above. Source: edit burden alone lets partly broken text through.
"""

from __future__ import annotations

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["fluency_gap"]


def fluency_gap(material: Material, _selector: str) -> Measurement:
    """Mean paired difference of losses; clusters: groups."""
    gaps = []
    for generation, logp, index in zip(
        material.candidate, material.drift.champion_logps, material.prompted, strict=True
    ):
        own = -float(logp) / max(generation.tokens, 1)
        human = -material.champion_logps.chosen[index] / max(int(material.chosen_tokens[index]), 1)
        gaps.append(own - float(human))
    return Measurement(mean_by_cluster(gaps, material.prompted_groups))
