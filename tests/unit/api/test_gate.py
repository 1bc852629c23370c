"""The gate: what passes, what fails, what is not enough evidence."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_api.evidence import CriterionEvidence, Evidence
from alignment_api.gate import decide, judge
from alignment_api.spec import Criterion
from alignment_api.verdict import Result
from support.runs import evidence

MAXIMUM = Criterion.model_validate({"name": "edits", "metric": "editBurden", "maximum": 0.0})
MINIMUM = Criterion.model_validate({"name": "edits", "metric": "winRate", "minimum": 0.5})
LIMITS: dict[bool, dict[str, Any]] = {
    True: {"metric": "winRate", "minimum": 0.5, "maximum": None},
    False: {"maximum": 0.0},
}


@pytest.mark.parametrize(
    ("criterion", "low", "high", "expected"),
    [
        (MAXIMUM, -0.2, -0.1, Result.PASSED),
        (MAXIMUM, -0.2, 0.0, Result.INCONCLUSIVE),  # exactly on the limit is not beyond it
        (MAXIMUM, -0.1, 0.1, Result.INCONCLUSIVE),
        (MAXIMUM, 0.0, 0.1, Result.INCONCLUSIVE),
        (MAXIMUM, 0.1, 0.2, Result.FAILED),
        (MINIMUM, 0.51, 0.6, Result.PASSED),
        (MINIMUM, 0.5, 0.6, Result.INCONCLUSIVE),
        (MINIMUM, 0.4, 0.6, Result.INCONCLUSIVE),
        (MINIMUM, 0.4, 0.49, Result.FAILED),
    ],
)
def test_the_whole_interval_must_be_on_the_right_side(
    criterion: Criterion, low: float, high: float, expected: Result
) -> None:
    item = evidence(low, high, **LIMITS[criterion.minimum is not None])
    assert judge(criterion, item).result is expected


def test_a_bound_without_significance_does_not_pass() -> None:
    assert judge(MAXIMUM, evidence(-0.2, -0.1, p_value=0.06)).result is Result.INCONCLUSIVE
    assert judge(MAXIMUM, evidence(-0.2, -0.1, p_value=0.05)).result is Result.PASSED


@pytest.mark.parametrize(
    "change",
    [{"low": None}, {"high": None}, {"estimate": None}, {"n": 0}],
    ids=["no lower bound", "no upper bound", "no estimate", "no observations"],
)
def test_missing_numbers_are_inconclusive_with_a_reason(change: dict[str, Any]) -> None:
    item = CriterionEvidence.model_validate(evidence(-0.2, -0.1).to_wire() | change)
    verdict = judge(MAXIMUM, item)
    assert verdict.result is Result.INCONCLUSIVE
    assert verdict.message


def test_not_a_number_is_inconclusive() -> None:
    item = evidence(-0.2, -0.1).model_copy(update={"high": math.nan})
    assert judge(MAXIMUM, item).result is Result.INCONCLUSIVE


def test_a_criterion_without_evidence_is_inconclusive() -> None:
    verdict = decide((MAXIMUM,), Evidence())
    assert verdict.result is Result.INCONCLUSIVE
    assert verdict.criteria[0].message


def test_no_blocking_criterion_shows_nothing() -> None:
    dry = evidence(-0.2, -0.1, mode="DryRun")
    assert decide((), Evidence(criteria=(dry,))).result is Result.INCONCLUSIVE


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        ("lengthRatio", {"maximum": 1.25}),
        ("worstCohortAccuracy", {"minimum": 0.5}),
        ("klPerToken", {"maximum": 1}),
    ],
)
def test_counter_metrics_alone_show_nothing_and_release_nothing(metric: str, limit: dict[str, float]) -> None:
    criterion = Criterion.model_validate({"name": "counter", "metric": metric, **limit})
    bounds = (0.9, 0.95) if criterion.upwards else (0.1, 0.2)
    item = evidence(*bounds).model_copy(update={"criterion": criterion})
    alone = decide((), Evidence(criteria=(item,)))
    assert alone.criteria[0].result is Result.PASSED
    assert alone.result is Result.INCONCLUSIVE, "a copy of the champion would pass as well"
    dry = evidence(-0.2, -0.1, mode="DryRun")
    assert decide((), Evidence(criteria=(item, dry))).result is Result.INCONCLUSIVE
    assert decide((), Evidence(criteria=(item, evidence(-0.2, -0.1)))).result is Result.PASSED


def test_a_counter_metric_that_fails_alone_is_a_failure() -> None:
    criterion = Criterion.model_validate({"name": "length", "metric": "lengthRatio", "maximum": 1.25})
    item = evidence(1.5, 1.6).model_copy(update={"criterion": criterion})
    assert decide((), Evidence(criteria=(item,))).result is Result.FAILED


def test_dry_runs_are_shown_and_never_counted() -> None:
    verdict = decide(
        (), Evidence(criteria=(evidence(-0.2, -0.1), evidence(0.1, 0.2, name="dry", mode="DryRun")))
    )
    assert verdict.result is Result.PASSED
    assert [c.result for c in verdict.criteria] == [Result.PASSED, Result.FAILED]


def test_failed_beats_inconclusive_and_every_criterion_is_judged() -> None:
    items = (evidence(-0.1, 0.1, name="a"), evidence(0.1, 0.2, name="b"), evidence(-0.2, -0.1, name="c"))
    verdict = decide((), Evidence(criteria=items))
    assert verdict.result is Result.FAILED
    assert [c.result for c in verdict.criteria] == [Result.INCONCLUSIVE, Result.FAILED, Result.PASSED]


ORDER = {Result.FAILED: 0, Result.INCONCLUSIVE: 1, Result.PASSED: 2}
ITEMS = st.lists(
    st.tuples(
        st.booleans(),  # the limit is a minimum
        st.floats(-1, 1),  # estimate
        st.floats(0, 1),  # below it
        st.floats(0, 1),  # above it
        st.none() | st.floats(0, 1),  # p-value
        st.sampled_from(["Blocking", "DryRun"]),
    ),
    min_size=1,
    max_size=6,
)


@given(items=ITEMS, moves=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=6, max_size=6))
def test_more_evidence_in_the_same_direction_never_lowers_the_verdict(
    items: list[tuple[bool, float, float, float, float | None, str]], moves: list[tuple[float, float]]
) -> None:
    """A better estimate, a narrower interval, a smaller p-value: Passed stays Passed, and nothing becomes Failed."""
    before, after = [], []
    for number, ((upwards, estimate, below, above, p, mode), (shift, shrink)) in enumerate(
        zip(items, moves, strict=False)
    ):
        limits: dict[str, Any] = {"minimum": 0.0, "maximum": None} if upwards else {"maximum": 0.0}
        better = estimate + shift if upwards else estimate - shift
        # Both bounds move the good way: the one on the good side of the estimate may come nearer, never cross it.
        low, high = estimate - below, estimate + above
        new_low = max(low, better - below * shrink) if upwards else better - below
        new_high = better + above if upwards else min(high, better + above * shrink)
        common = {"name": f"c{number}", "mode": mode, **limits}
        before.append(evidence(low, high, estimate=estimate, p_value=p, **common))
        smaller = None if p is None else p * shrink
        after.append(evidence(new_low, new_high, estimate=better, p_value=smaller, **common))
    first, second = decide((), Evidence(criteria=tuple(before))), decide((), Evidence(criteria=tuple(after)))
    assert ORDER[second.result] >= ORDER[first.result]
    for one, other in zip(first.criteria, second.criteria, strict=True):
        assert ORDER[other.result] >= ORDER[one.result]


@given(items=ITEMS, drawn=st.randoms(use_true_random=False))
def test_the_order_of_criteria_changes_nothing(
    items: list[tuple[bool, float, float, float, float | None, str]], drawn: Any
) -> None:
    criteria = [
        evidence(e - b, e + a, estimate=e, p_value=p, mode=mode, name=f"c{number}")
        for number, (_, e, b, a, p, mode) in enumerate(items)
    ]
    first = decide((), Evidence(criteria=tuple(criteria)))
    drawn.shuffle(criteria)
    assert decide((), Evidence(criteria=tuple(criteria))).result is first.result


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"metric": "preferenceAccuracy"}, "computed for preferenceAccuracy, not for winRate"),
        (
            {"metric": "anchorLossDelta", "selector": "general"},
            "computed for anchorLossDelta(general), not for winRate",
        ),
    ],
)
def test_evidence_for_another_metric_under_the_same_name_decides_nothing(
    other: dict[str, Any], said: str
) -> None:
    named = Criterion.model_validate({"name": MINIMUM.name, "minimum": MINIMUM.minimum, **other})
    item = evidence(0.85, 0.95).model_copy(update={"criterion": named})
    verdict = decide((MINIMUM,), Evidence(criteria=(item,)))
    assert verdict.result is Result.INCONCLUSIVE
    assert said in str(verdict.criteria[0].message)


def test_evidence_for_another_set_decides_nothing() -> None:
    wire = {"name": "anchor", "metric": "anchorLossDelta", "maximum": 0.05}
    ours, theirs = (Criterion.model_validate(wire | {"selector": name}) for name in ("general", "legal"))
    verdict = judge(ours, evidence(-0.2, -0.1).model_copy(update={"criterion": theirs}))
    assert verdict.result is Result.INCONCLUSIVE
    assert "computed for anchorLossDelta(legal), not for anchorLossDelta(general)" in str(verdict.message)


def test_evidence_for_another_limit_decides_nothing() -> None:
    other = Criterion.model_validate({"name": "edits", "metric": "editBurden", "maximum": 0.1})
    verdict = judge(other, evidence(-0.2, -0.1))
    assert verdict.result is Result.INCONCLUSIVE
    assert "computed for the limit 0" in str(verdict.message)
