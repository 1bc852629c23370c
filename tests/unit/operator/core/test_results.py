"""What a stage's result says in the conditions of its run."""

from __future__ import annotations

import pytest

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.names import StageName
from alignment_api.stage import StageResult
from alignment_api.status import Share
from alignment_operator.core.draft import Draft
from alignment_operator.core.results import record_result
from support import runs


def prepared(**fields: object) -> StageResult:
    result = runs.result(StageName.PREPARE)
    assert result.data is not None
    return result.model_copy(update={"data": result.data.model_copy(update=fields)})


def recorded(result: StageResult) -> tuple[ConditionStatus, Reason, str]:
    run = runs.run()
    draft = Draft(run, runs.at(0))
    assert record_result(draft, run, result, now=runs.at(0))
    condition = draft.status().condition(ConditionType.DATA_READY)
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_data_without_a_warning_is_done() -> None:
    agree = Share(estimate=0.9, low=0.8, high=0.95, n=40)
    status, reason, message = recorded(prepared(cohort_agreement=agree))
    assert (status, reason) == (ConditionStatus.TRUE, Reason.DONE)
    assert message.endswith("held out.")


@pytest.mark.parametrize(("high", "expected"), [(0.49, Reason.COHORTS_CONTRADICT), (0.51, Reason.DONE)])
def test_cohorts_that_contradict_each_other_are_the_conditions_reason(high: float, expected: Reason) -> None:
    share = Share(estimate=0.3, low=0.2, high=high, n=40)
    status, reason, _ = recorded(prepared(cohort_agreement=share))
    assert (status, reason) == (ConditionStatus.TRUE, expected)


def test_warnings_stand_in_the_message_and_never_burst_it() -> None:
    _, _, message = recorded(prepared(warnings=("the clocks differ", "few pairs")))
    assert message.endswith("held out. Note: the clocks differ. Note: few pairs.")
    _, _, message = recorded(prepared(warnings=("x" * 512,) * 16))
    assert len(message) <= 4096
