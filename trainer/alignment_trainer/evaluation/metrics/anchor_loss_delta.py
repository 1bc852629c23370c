"""``anchorLossDelta``: has the candidate forgotten text whose likelihood must not fall?

Definition: loss per token on an anchor set, candidate minus champion, paired by text. Unit: nats per token.
Direction: lower is better. Source: forgetting under sequential DPO is uneven, arXiv 2606.19744.
"""

from __future__ import annotations

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["anchor_loss_delta"]


def anchor_loss_delta(material: Material, selector: str) -> Measurement:
    """Mean paired difference of losses on the anchor set named by ``selector``."""
    losses = material.anchors.get(selector)
    if losses is None:
        raise ValueError(f"there is no anchor set named {selector!r} in spec.evaluation.anchors")
    differences = losses.candidate - losses.champion
    return Measurement(
        mean_by_cluster(list(differences), [""] * len(differences)), champion=float(losses.champion.mean())
    )
