"""The default gate, and what a user's own gate must not lean on. Light: prepare and the command line read it too.

What a release may rest on depends on what the pairs are. Edits and judges allow a comparison of generated texts, which
alone can show that a model is better. Where there is neither, log-probabilities are all there is; they then decide
with every counter-metric beside them, and the report says how weak that is. docs/gate.md justifies each limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from alignment_api.gate import NOTHING_CARRIES, carries
from alignment_api.metrics import METRICS, MetricFamily, MetricName
from alignment_api.spec import Criterion, CriterionMode, EvaluationSpec, JudgeType
from alignment_trainer.errors import RequestError

__all__ = ["COUNTERS", "NOT_BETTER", "asks_for_better", "default_criteria", "why_nothing_carries"]

NOT_BETTER: Final = (
    "a copy of the champion meets every limit of this gate: it releases models that are not worse, not only better ones. Ask "
    "for more, such as editBurden below 0 or winRate above 0.5, unless that is what you want"
)
"""What prepare and the report say of such a gate."""

COUNTERS: Final = (
    Criterion(name="language", metric=MetricName.FLUENCY_GAP, maximum=0.5),
    Criterion(name="degenerate", metric=MetricName.DEGENERATE_RATE, maximum=0.05),
    Criterion(name="displacement", metric=MetricName.CHOSEN_LOG_RATIO, minimum=-0.25),
)
"""Counter-metrics that block in every default gate."""
_LENGTH: Final = Criterion(name="length", metric=MetricName.LENGTH_RATIO, maximum=1.25)
_DRIFT: Final = Criterion(name="drift", metric=MetricName.KL_PER_TOKEN, maximum=1.0)
_COHORTS: Final = Criterion(name="cohorts", metric=MetricName.WORST_COHORT_ACCURACY, minimum=0.45)
_BESIDE_DIRECTION: Final = (_LENGTH, _DRIFT, _COHORTS)
"""Block beside the others where log-probabilities alone decide; elsewhere drift and cohorts are only shown."""
_LIFT: Final = Criterion(
    name="direction",
    metric=MetricName.PREFERENCE_LIFT,
    minimum=0.0,
    minimum_effect=0.1,
    mode=CriterionMode.DRY_RUN,
)
_ACCURACY: Final = Criterion(
    name="direction", metric=MetricName.PREFERENCE_ACCURACY, minimum=0.5, minimum_effect=0.05
)


_MOST_SETS: Final = 8
"""Sixteen criteria fit a gate; the default one has at most eight without sets."""
_LONGEST_NAME: Final = 63


def default_criteria(spec: EvaluationSpec, *, edits: bool) -> tuple[Criterion, ...]:
    """The gate of a user who wrote none. edits: the release can rest on edits (``prompts.rests_on_edits``).

    Raises RequestError where more sets are given than fit.
    """
    dry = {"mode": CriterionMode.DRY_RUN}
    direction = _LIFT if edits else _ACCURACY.model_copy(update=dry)
    length = _LENGTH
    if spec.judge.type is not JudgeType.NONE:
        first: tuple[Criterion, ...] = (
            Criterion(name="wins", metric=MetricName.WIN_RATE, minimum=0.5, minimum_effect=0.05),
            direction,
        )
    elif edits:
        # Edit burden measures length itself; people whose edits lengthen may teach longer texts.
        length = _LENGTH.model_copy(update=dry)
        first = (
            Criterion(name="edits", metric=MetricName.EDIT_BURDEN, maximum=-0.005, minimum_effect=0.02),
            direction,
        )
    else:
        return (_ACCURACY, *COUNTERS, *_BESIDE_DIRECTION, *_sets(spec))
    return (*first, *COUNTERS, length, *(c.model_copy(update=dry) for c in (_DRIFT, _COHORTS)), *_sets(spec))


def _sets(spec: EvaluationSpec) -> list[Criterion]:
    """One blocking criterion for each set that the user gave. Raises RequestError where they do not fit a gate."""
    count = len(spec.refusals) + len(spec.anchors)
    if count > _MOST_SETS:
        raise RequestError(
            f"spec.evaluation has {count} anchor and refusal sets, and the default gate has room for {_MOST_SETS}: some would not "
            "block. Join sets, or write gate.criteria with those that must block.",
            reason="SetsTooMany",
        )
    refusals = [
        Criterion(
            name=_named("refusal", r.name), metric=MetricName.REFUSAL_RATE, selector=r.name, minimum=-0.05
        )
        for r in spec.refusals
    ]
    anchors = [
        Criterion(
            name=_named("anchor", a.name), metric=MetricName.ANCHOR_LOSS_DELTA, selector=a.name, maximum=0.05
        )
        for a in spec.anchors
    ]
    return [*refusals, *anchors]


def _named(kind: str, name: str) -> str:
    """A criterion's name, at most 63 characters; a long one keeps its beginning and a digest, so that no two are equal."""
    whole = f"{kind}-{name}"
    if len(whole) <= _LONGEST_NAME:
        return whole
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{whole[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def asks_for_better(criteria: Sequence[Criterion]) -> bool:
    """False where a copy of the champion meets all limits on which a release can rest; True where there are none."""
    resting = [c for c in criteria if carries(c)]
    return not resting or not all(_met_by_a_copy(c) for c in resting)


def _met_by_a_copy(criterion: Criterion) -> bool:
    copy = METRICS[criterion.metric].of_a_copy
    if copy is None:
        return False
    return copy > criterion.limit if criterion.upwards else copy < criterion.limit


def why_nothing_carries(criteria: Sequence[Criterion], *, comparable: bool) -> str | None:
    """Why these criteria cannot release a model here, whatever is measured; None where they can.

    comparable: generated texts can be compared (edits, or a judge); then log-probabilities alone carry no release.
    """
    families = {METRICS[c.metric].family for c in criteria if carries(c)}
    if not families:
        return NOTHING_CARRIES
    if MetricFamily.SUPERIORITY in families:
        return None
    if comparable:
        return (
            "log-probabilities show a direction, never that the model is better, and generated texts can be compared here: "
            "add a blocking criterion on editBurden or winRate"
        )
    blocking = {c.metric for c in criteria if c.mode is CriterionMode.BLOCKING}
    missing = [c.metric for c in (*COUNTERS, *_BESIDE_DIRECTION) if c.metric not in blocking]
    if missing:
        names = ", ".join(missing)
        return f"a release on log-probabilities needs every counter-metric beside it: add blocking criteria on {names}"
    return None
