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
    assert judge(criterion, evidence(low, high)).result is expected


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


@given(
    estimate=st.floats(-1, 1),
    half_width=st.floats(0.001, 1),
    shrink=st.floats(0.01, 1),
    towards=st.floats(0, 1),
)
def test_more_evidence_in_the_same_direction_never_turns_passed_into_failed(
    estimate: float, half_width: float, shrink: float, towards: float
) -> None:
    first = judge(MAXIMUM, evidence(estimate - half_width, estimate + half_width, estimate=estimate))
    better = estimate - towards
    narrower = half_width * shrink
    second = judge(MAXIMUM, evidence(better - narrower, better + narrower, estimate=better))
    if first.result is Result.PASSED:
        assert second.result is Result.PASSED
    if first.result is Result.INCONCLUSIVE and better + narrower < 0:
        assert second.result is Result.PASSED
