"""The decision: plain comparison of bounds and p-values with limits.

Called by the plan of both executors with the evidence that evaluate computed. Pure: no statistics, no
clock, no I/O, so the operator and ``align run`` cannot differ. What the numbers mean is written in
docs/gate.md; how they are estimated is the trainer's business.

A criterion
    Passed        the metric is on the right side of its limit with confidence 1 - alpha,
                  by the bound and, where one was computed, by the p-value;
    Failed        it is on the wrong side with the same confidence;
    Inconclusive  otherwise, and whenever the evidence is missing, empty or not a number.

The verdict counts blocking criteria only: any Failed → Failed; else any Inconclusive → Inconclusive; else
Passed. Without a blocking criterion that can show that the model is better it is Inconclusive: that counter-metrics
did not get worse is true of a copy as well, and a limit on the wrong side asks for a worse model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from alignment_api.evidence import CriterionEvidence, Evidence
from alignment_api.metrics import METRICS, Better, MetricFamily
from alignment_api.spec.gate import Criterion, CriterionMode
from alignment_api.verdict import CriterionVerdict, Result, Verdict

__all__ = ["NOTHING_CARRIES", "carries", "decide", "judge"]

NOTHING_CARRIES = (
    "no blocking criterion can show that the model is better, counter-metrics show only that it did not get worse; add one "
    "on editBurden or winRate"
)
"""Why a gate of counter-metrics decides nothing, for people."""


def carries(criterion: Criterion) -> bool:
    """True when a release can rest on this criterion: it blocks, and passing it shows that the metric is better than a limit.

    Whether a copy of the champion would pass as well depends on the limit; ``planning`` warns of those.
    """
    metric = METRICS[criterion.metric]
    return (
        criterion.mode is CriterionMode.BLOCKING
        and metric.family is not MetricFamily.COUNTER
        and criterion.upwards is (metric.better is Better.HIGHER)
    )


def decide(policy: Iterable[Criterion], evidence: Evidence) -> Verdict:
    """Verdict over ``policy`` from ``evidence``, matched by criterion name.

    policy: the gate's criteria; empty means the default set, which evaluate resolved and recorded in the evidence.
    Every criterion is judged, so that a person sees every failure at once.
    """
    by_name = {item.criterion.name: item for item in evidence.criteria}
    criteria = tuple(policy) or tuple(item.criterion for item in evidence.criteria)
    verdicts = tuple(judge(criterion, by_name.get(criterion.name)) for criterion in criteria)
    blocking = [v.result for v in verdicts if v.mode is CriterionMode.BLOCKING]
    if Result.FAILED in blocking:
        result = Result.FAILED
    elif Result.INCONCLUSIVE in blocking or not any(carries(c) for c in criteria):
        result = Result.INCONCLUSIVE
    else:
        result = Result.PASSED
    return Verdict(result=result, criteria=verdicts)


def judge(criterion: Criterion, evidence: CriterionEvidence | None) -> CriterionVerdict:
    """Verdict on one criterion; missing or unusable evidence is Inconclusive, with the reason in the message."""
    missing = _why_unusable(criterion, evidence)
    if evidence is None or missing is not None:
        return CriterionVerdict(
            name=criterion.name,
            metric=criterion.metric,
            selector=criterion.selector or "",
            mode=criterion.mode,
            result=Result.INCONCLUSIVE,
            limit=criterion.limit,
            alpha=evidence.alpha if evidence else None,
            needed_pairs=evidence.needed_pairs if evidence else None,
            message=missing,
        )
    result, bound = _compare(criterion, evidence)
    return CriterionVerdict(
        name=criterion.name,
        metric=criterion.metric,
        selector=criterion.selector or "",
        mode=criterion.mode,
        result=result,
        limit=criterion.limit,
        estimate=evidence.estimate,
        bound=bound,
        p_value=evidence.p_value,
        alpha=evidence.alpha,
        needed_pairs=evidence.needed_pairs,
        message=evidence.message,
    )


def _why_unusable(criterion: Criterion, evidence: CriterionEvidence | None) -> str | None:
    if evidence is None:
        return f"evaluate reported nothing for {criterion.metric}"
    if _subject(evidence.criterion) != _subject(criterion):
        return f"the evidence was computed for {_subject(evidence.criterion)}, not for {_subject(criterion)}"
    if (evidence.criterion.minimum, evidence.criterion.maximum) != (criterion.minimum, criterion.maximum):
        return f"the evidence was computed for the limit {evidence.criterion.limit:g}, not for {criterion.limit:g}"
    if evidence.n == 0:
        return evidence.message or f"{criterion.metric} has no observations"
    numbers = (evidence.estimate, evidence.low, evidence.high)
    if any(number is None or not math.isfinite(number) for number in numbers) or (
        evidence.p_value is not None and math.isnan(evidence.p_value)
    ):
        return evidence.message or f"{criterion.metric} could not be estimated"
    return None


def _subject(criterion: Criterion) -> str:
    return f"{criterion.metric}({criterion.selector})" if criterion.selector else str(criterion.metric)


def _compare(criterion: Criterion, evidence: CriterionEvidence) -> tuple[Result, float]:
    """Result and the bound that decided. A bound exactly on the limit is not beyond it, so it does not pass."""
    low, high, limit = evidence.low, evidence.high, criterion.limit
    assert low is not None and high is not None  # noqa: S101,PT018  _why_unusable saw to it
    significant = evidence.p_value is None or evidence.p_value <= evidence.alpha
    if criterion.upwards:
        if low > limit and significant:
            return Result.PASSED, low
        return (Result.FAILED, high) if high < limit else (Result.INCONCLUSIVE, low)
    if high < limit and significant:
        return Result.PASSED, high
    return (Result.FAILED, low) if low > limit else (Result.INCONCLUSIVE, high)
