"""Metrics: each one file with one function from material to a measurement, and one line in ``REGISTRY``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from alignment_api.metrics import MetricName
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics.anchor_loss_delta import anchor_loss_delta
from alignment_trainer.evaluation.metrics.chosen_log_ratio import chosen_log_ratio
from alignment_trainer.evaluation.metrics.degenerate_rate import degenerate_rate
from alignment_trainer.evaluation.metrics.edit_burden import edit_burden
from alignment_trainer.evaluation.metrics.fluency_gap import fluency_gap
from alignment_trainer.evaluation.metrics.kl_per_token import kl_per_token
from alignment_trainer.evaluation.metrics.length_ratio import length_ratio
from alignment_trainer.evaluation.metrics.preference_accuracy import preference_accuracy
from alignment_trainer.evaluation.metrics.preference_lift import preference_lift
from alignment_trainer.evaluation.metrics.ranking_accuracy import ranking_accuracy
from alignment_trainer.evaluation.metrics.refusal_rate import refusal_rate
from alignment_trainer.evaluation.metrics.win_rate import win_rate
from alignment_trainer.evaluation.metrics.win_rate_length_controlled import win_rate_length_controlled
from alignment_trainer.evaluation.metrics.worst_cohort_accuracy import worst_cohort_accuracy

__all__ = ["REGISTRY", "measure"]

Metric = Callable[[Material, str], Measurement]
"""A metric gets the material and the selector (empty for most)."""

REGISTRY: Final[dict[MetricName, Metric]] = {
    MetricName.EDIT_BURDEN: edit_burden,
    MetricName.WIN_RATE: win_rate,
    MetricName.WIN_RATE_LENGTH_CONTROLLED: win_rate_length_controlled,
    MetricName.PREFERENCE_ACCURACY: preference_accuracy,
    MetricName.PREFERENCE_LIFT: preference_lift,
    MetricName.RANKING_ACCURACY: ranking_accuracy,
    MetricName.LENGTH_RATIO: length_ratio,
    MetricName.KL_PER_TOKEN: kl_per_token,
    MetricName.CHOSEN_LOG_RATIO: chosen_log_ratio,
    MetricName.DEGENERATE_RATE: degenerate_rate,
    MetricName.FLUENCY_GAP: fluency_gap,
    MetricName.WORST_COHORT_ACCURACY: worst_cohort_accuracy,
    MetricName.ANCHOR_LOSS_DELTA: anchor_loss_delta,
    MetricName.REFUSAL_RATE: refusal_rate,
}


def measure(name: MetricName, material: Material, selector: str = "") -> Measurement:
    """Compute one metric. What cannot be measured comes back as unavailable, with the reason."""
    try:
        return REGISTRY[name](material, selector)
    except ValueError as error:
        return Measurement.unavailable(str(error))
