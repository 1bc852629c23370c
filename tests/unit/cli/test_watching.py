"""A watch goes from look to look: when it ends, and what it does while nobody answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.run import AlignmentRun
from alignment_api.status import AlignmentRunStatus, Condition
from alignment_cli.errors import CommandError, Unreachable
from alignment_cli.watching import LOOK_SECONDS, PATIENCE_SECONDS, follow
from support import runs

if TYPE_CHECKING:
    from alignment_cli.backend import Backend

DECISION = {"result": "Approve", "by": "dr@example.org", "reason": "read the report"}


def standing(reason: Reason, **spec: object) -> AlignmentRun:
    status = {Reason.PUBLISHED: ConditionStatus.TRUE, Reason.GATE_FAILED: ConditionStatus.FALSE}
    condition = Condition(
        type=ConditionType.SUCCEEDED,
        status=status.get(reason, ConditionStatus.UNKNOWN),
        reason=reason,
        last_transition_time=runs.START,
    )
    return runs.run(**spec).model_copy(update={"status": AlignmentRunStatus(conditions=(condition,))})


class Story:
    """A backend that tells one thing a look, with a clock that only sleeping moves. The last thing is told for ever."""

    def __init__(self, *told: AlignmentRun | CommandError) -> None:
        self.told = list(told)
        self.now = 0.0

    def get(self, _name: str) -> AlignmentRun:
        said = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(said, CommandError):
            raise said
        return said

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def reasons(self) -> list[Reason]:
        """Follow it to the end: the reasons that were shown."""
        followed = follow(cast("Backend", self), "notes", clock=lambda: self.now, sleep=self.sleep)
        summaries = [run.status.condition(ConditionType.SUCCEEDED) for run in followed]
        return [summary.reason for summary in summaries if summary is not None]


TRAINING = standing(Reason.TRAINING)
PUBLISHED = standing(Reason.PUBLISHED)
SILENCE = Unreachable("No cluster answers: it is upgraded")


def test_only_changes_are_shown() -> None:
    assert Story(TRAINING, TRAINING, TRAINING, PUBLISHED).reasons() == [Reason.TRAINING, Reason.PUBLISHED]


@pytest.mark.parametrize(
    "waiting",
    [standing(Reason.AWAITING_DECISION), standing(Reason.SUSPENDED, suspend=True)],
    ids=["for a decision", "to be resumed"],
)
def test_a_watch_ends_where_only_a_person_can_go_on(waiting: AlignmentRun) -> None:
    assert Story(TRAINING, waiting).reasons()[-1] in (Reason.AWAITING_DECISION, Reason.SUSPENDED)


@pytest.mark.parametrize(
    "moved",
    [
        standing(Reason.AWAITING_DECISION, gate={"decision": DECISION}),
        standing(Reason.SUSPENDED, suspend=False),
        standing(Reason.TRAINING, suspend=True),
    ],
    ids=["approved", "resumed", "not yet suspended"],
)
def test_a_watch_goes_on_while_the_status_lags_behind_what_a_person_said(moved: AlignmentRun) -> None:
    assert Story(moved, PUBLISHED).reasons()[-1] is Reason.PUBLISHED


def test_each_silence_is_waited_out_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(TRAINING, SILENCE, SILENCE, SILENCE, TRAINING, SILENCE, PUBLISHED)
    assert story.reasons() == [Reason.TRAINING, Reason.PUBLISHED]
    said = "align: No cluster answers: it is upgraded; asking again for 120 s.\n"
    assert capsys.readouterr() == ("", said * 2)


def test_a_silence_that_lasts_ends_the_watch() -> None:
    story = Story(TRAINING, SILENCE)
    with pytest.raises(Unreachable):
        story.reasons()
    assert PATIENCE_SECONDS < story.now <= PATIENCE_SECONDS + 3 * LOOK_SECONDS


def test_a_cluster_that_never_answered_is_not_waited_for() -> None:
    story = Story(SILENCE)
    with pytest.raises(Unreachable):
        story.reasons()
    assert story.now == 0.0


def test_a_refusal_ends_the_watch_at_once() -> None:
    with pytest.raises(CommandError, match="not found"):
        Story(TRAINING, CommandError("notes not found")).reasons()
