"""From measurements to evidence: each criterion's bounds, p-value and needed pairs, at its alpha."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alignment_api.evidence import CriterionEvidence, Evidence
from alignment_api.gate import carries
from alignment_api.metrics import MetricName
from alignment_api.spec import Criterion
from alignment_trainer.evaluation.defaults import why_nothing_carries
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.prompts import PLACEBO_PAIRS
from alignment_trainer.evaluation.statistics import Estimate, bounds, needed_observations, p_value

__all__ = ["Alpha", "gather_evidence"]


@dataclass(frozen=True)
class Alpha:
    """Error reserved for this decision; None when the budget is spent, and then ``message`` says so."""

    value: float | None
    message: str | None = None


def gather_evidence(
    criteria: tuple[Criterion, ...],
    measured: Callable[[MetricName, str], Measurement],
    reserved: Alpha,
    *,
    comparable: bool,
) -> Evidence:
    """Evidence for each criterion: superiority and direction at the reserved alpha, counter-metrics at their own.

    No correction over the criteria: all blocking ones must pass, so the chance that a model that is no better
    passes is at most the alpha of the criterion that it does not meet (intersection-union test, Berger 1982).
    comparable: generated texts can be compared (edits, or a judge); then log-probabilities alone carry no release.
    """
    weak = why_nothing_carries(criteria, comparable=comparable)
    return Evidence(
        criteria=tuple(
            _evidence(criterion, measured(criterion.metric, criterion.selector or ""), reserved, weak)
            for criterion in criteria
        )
    )


def _evidence(
    criterion: Criterion, measurement: Measurement, reserved: Alpha, weak: str | None
) -> CriterionEvidence:
    own = 1 - criterion.confidence
    if carries(criterion) and reserved.value is None:
        return CriterionEvidence(criterion=criterion, alpha=own, message=reserved.message)
    alpha = min(own, reserved.value) if carries(criterion) and reserved.value is not None else own
    if weak is not None and carries(criterion):
        return CriterionEvidence(criterion=criterion, alpha=alpha, message=weak)
    estimate = measurement.estimate
    if estimate is None:
        return CriterionEvidence(criterion=criterion, alpha=alpha, message=measurement.message)
    low, high = (_told(bound) for bound in bounds(estimate, alpha))
    passed = low > criterion.limit if criterion.upwards else high < criterion.limit
    needed, message = _plan(criterion, estimate, alpha, passed=passed)
    return CriterionEvidence(
        criterion=criterion,
        estimate=_told(estimate.value),
        low=low,
        high=high,
        p_value=_told(p_value(estimate, criterion.limit, above=criterion.upwards)),
        alpha=alpha,
        n=estimate.n,
        clusters=estimate.clusters,
        needed_pairs=needed,
        message=". ".join(part for part in (measurement.message, message) if part) or None,
    )


def _told(number: float) -> float:
    """To the digits that a stage's answer has room for, so that the report decides on the same numbers as the run."""
    return float(f"{number:.6g}")


def _plan(
    criterion: Criterion, estimate: Estimate, alpha: float, *, passed: bool
) -> tuple[int | None, str | None]:
    """Pairs needed for the minimum effect; and, where there were enough, what a miss then means."""
    effect = criterion.minimum_effect
    if effect is None:
        return None, None
    signed = effect if criterion.upwards else -effect
    needed = needed_observations(estimate, criterion.limit, signed, alpha)
    if needed is None:
        return None, f"too many are missing to show {effect:g} beyond the limit, however many more there are"
    if criterion.metric is MetricName.PREFERENCE_LIFT and needed > PLACEBO_PAIRS:
        least = f"an effect of {effect:g} needs {needed} edits, and lift looks at {PLACEBO_PAIRS} at most"
        return None, f"{least}: state a larger minimumEffect"
    if needed > estimate.n or passed:
        return needed, None
    enough = (
        f"{estimate.n} observations were enough to show {effect:g} beyond the limit in 80 of 100 evaluations"
    )
    return None, f"{enough}; the candidate's is probably smaller"
