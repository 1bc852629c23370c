"""From measurements to evidence: the default criteria, and each criterion's bounds at its alpha.

The default set depends on what the pairs are. On edits only a metric of generations may carry a release;
where nothing better exists, a likelihood metric does, with every counter-metric beside it, and the report says
how weak that is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alignment_api.evidence import CriterionEvidence, Evidence
from alignment_api.metrics import METRICS, MetricFamily, MetricName
from alignment_api.spec import Criterion, CriterionMode, EvaluationSpec, JudgeType
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import Estimate, bounds, needed_observations, p_value

__all__ = ["Alpha", "default_criteria", "gather_evidence"]

_COUNTERS: Final = (
    Criterion(name="language", metric=MetricName.FLUENCY_GAP, maximum=0.5),
    Criterion(name="degenerate", metric=MetricName.DEGENERATE_RATE, maximum=0.1),
    Criterion(name="displacement", metric=MetricName.CHOSEN_LOG_RATIO, minimum=-0.25),
    Criterion(name="length", metric=MetricName.LENGTH_RATIO, maximum=1.25, mode=CriterionMode.DRY_RUN),
)
_DIRECTION: Final = Criterion(
    name="direction",
    metric=MetricName.PREFERENCE_ACCURACY,
    minimum=0.5,
    minimum_effect=0.05,
    mode=CriterionMode.DRY_RUN,
)


@dataclass(frozen=True)
class Alpha:
    """Error reserved for this decision; None when the budget is spent, and then ``message`` says so."""

    value: float | None
    message: str | None = None


def default_criteria(spec: EvaluationSpec, *, edits: bool) -> tuple[Criterion, ...]:
    """The gate of a user who wrote none; docs/gate.md lists and justifies it."""
    anchors = tuple(
        Criterion(
            name=f"anchor-{a.name}"[:63], metric=MetricName.ANCHOR_LOSS_DELTA, selector=a.name, maximum=0.05
        )
        for a in spec.anchors[:8]
    )
    if spec.judge.type is not JudgeType.NONE:
        first: tuple[Criterion, ...] = (
            Criterion(name="wins", metric=MetricName.WIN_RATE, minimum=0.5, minimum_effect=0.05),
            _DIRECTION,
        )
    elif edits:
        first = (
            Criterion(name="edits", metric=MetricName.EDIT_BURDEN, maximum=0.0, minimum_effect=0.02),
            _DIRECTION,
        )
    else:
        first = (_DIRECTION.model_copy(update={"mode": CriterionMode.BLOCKING}),)
    return (*first, *_COUNTERS, *anchors)


def gather_evidence(
    criteria: tuple[Criterion, ...], measured: Callable[[MetricName, str], Measurement], reserved: Alpha
) -> Evidence:
    """Evidence for each criterion: superiority and direction at the reserved alpha, counter-metrics at their own."""
    return Evidence(
        criteria=tuple(
            _evidence(criterion, measured(criterion.metric, criterion.selector or ""), reserved)
            for criterion in criteria
        )
    )


def _evidence(criterion: Criterion, measurement: Measurement, reserved: Alpha) -> CriterionEvidence:
    own = 1 - criterion.confidence
    spends = (
        METRICS[criterion.metric].family is not MetricFamily.COUNTER
        and criterion.mode is CriterionMode.BLOCKING
    )
    if spends and reserved.value is None:
        return CriterionEvidence(criterion=criterion, alpha=own, message=reserved.message)
    alpha = min(own, reserved.value) if spends and reserved.value is not None else own
    estimate = measurement.estimate
    if estimate is None:
        return CriterionEvidence(criterion=criterion, alpha=alpha, message=measurement.message)
    low, high = bounds(estimate, alpha)
    limit = criterion.maximum if criterion.maximum is not None else criterion.minimum
    assert limit is not None  # noqa: S101  the model's rule: exactly one limit
    needed, message = _plan(
        criterion, estimate, alpha, passed=low > limit if criterion.minimum is not None else high < limit
    )
    return CriterionEvidence(
        criterion=criterion,
        estimate=estimate.value,
        low=low,
        high=high,
        p_value=p_value(estimate, limit, above=criterion.minimum is not None),
        alpha=alpha,
        n=estimate.n,
        clusters=estimate.clusters,
        needed_pairs=needed,
        message=measurement.message or message,
    )


def _plan(
    criterion: Criterion, estimate: Estimate, alpha: float, *, passed: bool
) -> tuple[int | None, str | None]:
    """Pairs needed for the minimum effect; and, where there were enough, what a miss then means."""
    effect = criterion.minimum_effect
    if effect is None:
        return None, None
    needed = needed_observations(estimate, effect, alpha)
    if needed > estimate.n or passed:
        return needed, None
    return (
        None,
        f"{estimate.n} observations were enough to show an effect of {effect:g}; the candidate's is smaller",
    )
