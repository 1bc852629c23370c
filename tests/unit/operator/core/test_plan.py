"""The state machine's behaviour, one claim a test."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.names import STAGES, StageName
from alignment_api.run import AlignmentRun
from alignment_operator.core.observed import AttemptState
from support.runs import FAILED, INCONCLUSIVE, run

from .world import World

PREPARE, TRAIN, EVALUATE, PUBLISH = STAGES
UNTIL_GATE = (PREPARE, TRAIN, EVALUATE)


def with_gate(world: World, **gate: Any) -> None:
    wire = world.run.to_wire()
    wire["spec"]["gate"].update(gate)
    wire["metadata"]["generation"] = world.run.metadata.generation + 1
    world.run = AlignmentRun.model_validate(wire)


def with_spec(world: World, **spec: Any) -> None:
    wire = world.run.to_wire()
    wire["spec"].update(spec)
    world.run = AlignmentRun.model_validate(wire)


APPROVE = {"result": "Approve", "by": "ml-lead", "reason": "read the report"}
REJECT = {"result": "Reject", "by": "ml-lead", "reason": "too terse"}


def test_a_run_that_passes_is_published() -> None:
    world = World(run())
    world.through(*STAGES)
    assert world.started == ["notes-prepare-1", "notes-train-1", "notes-evaluate-1", "notes-publish-1"]
    assert world.reason is Reason.PUBLISHED
    assert all(c.status is ConditionStatus.TRUE for c in world.run.status.conditions)
    assert world.run.status.published is not None


def test_every_stage_gets_the_outputs_of_the_earlier_ones_and_the_pins() -> None:
    world = World(run())
    world.through(*STAGES)
    assert world.requests["notes-prepare-1"].pins is None
    assert set(world.requests["notes-evaluate-1"].inputs) == {PREPARE, TRAIN}
    publish = world.requests["notes-publish-1"]
    assert set(publish.inputs) == {PREPARE, TRAIN, EVALUATE}
    assert publish.pins is not None
    assert publish.verdict is not None


def test_looking_again_changes_nothing() -> None:
    world = World(run())
    world.look()
    first = world.run.status
    planned = world.look()
    assert planned.status == first
    assert planned.actions == ()


def test_a_crash_before_the_status_was_written_adopts_the_child() -> None:
    world = World(run())
    world.look(write_status=False)
    world.look()
    assert world.started == ["notes-prepare-1"]
    assert world.run.status.stage(PREPARE).attempt == 1


def test_a_result_seen_after_a_crash_leads_on_without_a_second_attempt() -> None:
    world = World(run())
    world.look(write_status=False)
    world.begin("notes-prepare-1")
    world.succeed("notes-prepare-1")
    world.look()
    assert world.started == ["notes-prepare-1", "notes-train-1"]


@pytest.mark.parametrize(
    ("code", "reason", "ends_with"),
    [
        (64, "RequestInvalid", Reason.REQUEST_INVALID),
        (65, "DataInvalid", Reason.DATA_INVALID),
        (65, "TooFewPairs", Reason.TOO_FEW_PAIRS),
    ],
)
def test_wrong_requests_and_wrong_data_are_not_tried_again(code: int, reason: str, ends_with: Reason) -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.fail("notes-prepare-1", code, reason)
    world.look()
    world.seconds += 3600
    world.look()
    assert world.reason is ends_with
    assert world.started == ["notes-prepare-1"]
    assert world.run.status.last_failure is not None
    assert world.run.status.last_failure.exit_code == code


def test_counted_failures_pause_and_end_after_the_limit() -> None:
    world = World(run(backoffLimit=2))
    world.look()
    for attempt, pause in ((1, 10), (2, 20), (3, 40)):
        name = f"notes-prepare-{attempt}"
        world.begin(name)
        world.fail(name, 1)
        planned = world.look()
        if attempt <= 2:
            assert world.reason is Reason.RETRYING
            assert planned.requeue_seconds == pytest.approx(pause)
            world.seconds += pause - 1
            world.look()
            assert len(world.started) == attempt
            world.seconds += 1
            world.look()
    assert world.reason is Reason.STAGE_FAILED
    assert len(world.started) == 3
    assert world.run.status.stage(PREPARE).failures == 3


@pytest.mark.parametrize(("code", "disrupted"), [(143, False), (137, True), (None, True)])
def test_being_stopped_from_outside_costs_no_attempt(code: int | None, disrupted: bool) -> None:
    world = World(run(backoffLimit=0))
    world.look()
    for attempt in range(1, 6):
        name = f"notes-prepare-{attempt}"
        world.begin(name)
        world.fail(name, code, disrupted=disrupted)
        world.look()
    stage = world.run.status.stage(PREPARE)
    assert (stage.failures, stage.preemptions, stage.attempt) == (0, 5, 6)


def test_an_attempt_that_its_queue_preempts_goes_on_under_the_same_number() -> None:
    world = World(run(backoffLimit=0))
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    world.seconds += 30
    world.change("notes-prepare-1", state=AttemptState.PENDING, started=None, message="Kueue: preempted")
    world.look()
    stage = world.run.status.stage(PREPARE)
    assert (stage.attempt, stage.failures, stage.preemptions, stage.running_seconds) == (1, 0, 1, 30)
    assert world.reason is Reason.QUEUED
    assert world.look().status == world.run.status
    world.seconds += 300
    world.begin("notes-prepare-1")
    world.look()
    world.seconds += 10
    world.succeed("notes-prepare-1")
    world.look()
    stage = world.run.status.stage(PREPARE)
    assert (stage.attempt, stage.preemptions, stage.running_seconds) == (1, 1, 40)


@pytest.mark.parametrize("seen_running_again", [True, False])
def test_a_drained_pod_whose_replacement_runs_already_counts_as_preempted(seen_running_again: bool) -> None:
    world = World(run(backoffLimit=0))
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    world.seconds += 30
    world.begin("notes-prepare-1")
    if seen_running_again:
        world.look()
    world.seconds += 5
    world.succeed("notes-prepare-1")
    world.look()
    stage = world.run.status.stage(PREPARE)
    assert (stage.attempt, stage.failures, stage.preemptions, stage.running_seconds) == (1, 0, 1, 35)


def test_out_of_memory_is_counted_and_says_so() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.fail("notes-prepare-1", 137)
    world.look()
    failure = world.run.status.last_failure
    assert failure is not None
    assert failure.reason == "Killed"
    assert "memory" in failure.message


def test_a_failed_attempt_is_counted_once_however_often_it_is_seen() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.fail("notes-prepare-1", 1)
    for _ in range(5):
        world.look()
    assert world.run.status.stage(PREPARE).failures == 1


def test_a_child_deleted_by_hand_is_replaced_after_a_look_at_the_live_cluster() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    del world.attempts["notes-prepare-1"]
    planned = world.look()
    assert planned.confirm_absent == ("notes-prepare-1",)
    world.seconds += 10
    world.look()
    assert world.started[-1] == "notes-prepare-2"
    assert world.run.status.stage(PREPARE).failures == 1


def test_a_lost_result_is_asked_for_again_and_finally_reported_as_lost() -> None:
    world = World(run(backoffLimit=1))
    world.look()
    for attempt in (1, 2):
        name = f"notes-prepare-{attempt}"
        world.begin(name)
        world.change(name, state=AttemptState.SUCCEEDED, exit_code=0)
        world.look()
        world.seconds += 60
        world.look()
    assert world.reason is Reason.RESULT_LOST


def test_suspending_stops_the_attempt_and_resuming_starts_a_new_one_for_free() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    with_spec(world, suspend=True)
    world.look()
    assert world.stopped == ["notes-prepare-1"]
    assert world.reason is Reason.SUSPENDED
    del world.attempts["notes-prepare-1"]
    world.look()
    assert world.reason is Reason.SUSPENDED
    with_spec(world, suspend=False)
    world.look()
    stage = world.run.status.stage(PREPARE)
    assert world.started[-1] == "notes-prepare-2"
    assert (stage.failures, stage.preemptions) == (0, 1)


def test_resuming_while_the_attempt_still_stops_is_free_too() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    with_spec(world, suspend=True)
    world.look()
    world.change("notes-prepare-1", state=AttemptState.STOPPING)
    with_spec(world, suspend=False)
    world.look()
    del world.attempts["notes-prepare-1"]
    world.look()
    assert world.run.status.stage(PREPARE).failures == 0
    assert world.started[-1] == "notes-prepare-2"


def test_only_running_time_counts_towards_the_deadline() -> None:
    world = World(run(activeDeadlineSeconds=100))
    world.look()
    world.seconds += 5000  # queued
    world.look()
    world.begin("notes-prepare-1")
    planned = world.look()
    assert planned.requeue_seconds == pytest.approx(100)
    world.seconds += 60
    world.succeed("notes-prepare-1")
    world.look()
    world.begin("notes-train-1")
    world.seconds += 39
    world.look()
    assert world.reason is Reason.TRAINING
    world.seconds += 1
    world.look()
    assert world.reason is Reason.DEADLINE_EXCEEDED
    assert world.stopped == ["notes-train-1"]


def test_what_still_runs_after_the_end_is_stopped() -> None:
    world = World(run(activeDeadlineSeconds=10))
    world.look()
    world.begin("notes-prepare-1")
    world.seconds += 11
    world.look()
    world.look()
    assert world.stopped == ["notes-prepare-1", "notes-prepare-1"]


def test_a_failed_verdict_ends_the_run() -> None:
    world = World(run())
    world.through(*UNTIL_GATE, evidence=FAILED)
    assert world.reason is Reason.GATE_FAILED
    assert "notes-publish-1" not in world.started


def test_a_failed_verdict_cannot_be_overruled() -> None:
    world = World(run(gate={"approval": "Manual", "onInconclusive": "Hold"}))
    world.through(*UNTIL_GATE, evidence=FAILED)
    with_gate(world, decision=APPROVE)
    world.look()
    assert world.reason is Reason.GATE_FAILED


def test_inconclusive_is_refused_by_default() -> None:
    world = World(run())
    world.through(*UNTIL_GATE, evidence=INCONCLUSIVE)
    assert world.reason is Reason.GATE_INCONCLUSIVE


@pytest.mark.parametrize(
    ("gate", "evidence"),
    [({"onInconclusive": "Hold"}, {"evidence": INCONCLUSIVE}), ({"approval": "Manual"}, {})],
    ids=["inconclusive and hold", "passed and manual"],
)
def test_a_person_is_waited_for_and_obeyed(gate: dict[str, Any], evidence: dict[str, Any]) -> None:
    world = World(run(gate=gate))
    world.through(*UNTIL_GATE, **evidence)
    assert world.reason is Reason.AWAITING_DECISION
    with_gate(world, decision=APPROVE)
    world.look()
    publish = world.requests["notes-publish-1"]
    assert publish.decision is not None
    assert publish.decision.by == "ml-lead"
    gate_passed = world.run.status.condition(ConditionType.GATE_PASSED)
    assert gate_passed is not None
    assert gate_passed.reason is Reason.APPROVED


def test_a_rejection_ends_the_run_with_its_reason() -> None:
    world = World(run(gate={"approval": "Manual"}))
    world.through(*UNTIL_GATE)
    with_gate(world, decision=REJECT)
    world.look()
    assert world.reason is Reason.REJECTED
    summary = world.run.status.condition(ConditionType.SUCCEEDED)
    assert summary is not None
    assert "too terse" in summary.message


def test_a_decision_made_before_the_evidence_does_not_count() -> None:
    world = World(run(gate={"approval": "Manual", "decision": APPROVE}))
    world.through(*UNTIL_GATE)
    assert world.reason is Reason.AWAITING_DECISION
    assert "notes-publish-1" not in world.started
    assert world.run.status.verdict is not None
    assert world.run.status.verdict.decision_ignored


def test_a_moved_champion_is_not_overwritten_and_says_so() -> None:
    world = World(run())
    world.through(*UNTIL_GATE)
    world.begin("notes-publish-1")
    world.succeed("notes-publish-1", champion_moved=True)
    world.look()
    assert world.reason is Reason.CHAMPION_MOVED
    assert world.run.status.published is not None


def test_a_foreign_child_of_the_same_name_is_not_adopted() -> None:
    world = World(run())
    world.foreign = frozenset({"notes-prepare-1"})
    planned = world.look()
    assert world.reason is Reason.NAME_CONFLICT
    assert planned.actions == ()
    assert planned.requeue_seconds is not None


def test_a_refused_launch_is_tried_again_and_tells_why() -> None:
    world = World(run())
    world.refusal = "exceeded quota: gpus"
    world.look()
    assert world.reason is Reason.LAUNCH_REFUSED
    summary = world.run.status.condition(ConditionType.SUCCEEDED)
    assert summary is not None
    assert "exceeded quota" in summary.message
    world.refusal = ""
    world.look()
    assert world.started == ["notes-prepare-1"]


def test_a_pending_attempt_tells_the_schedulers_words() -> None:
    world = World(run())
    world.look()
    world.change("notes-prepare-1", message="0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    world.look()
    summary = world.run.status.condition(ConditionType.SUCCEEDED)
    assert summary is not None
    assert summary.reason is Reason.QUEUED
    assert "Insufficient nvidia.com/gpu" in summary.message


def test_transition_times_move_only_with_the_status() -> None:
    world = World(run())
    world.look()
    first = world.run.status.condition(ConditionType.SUCCEEDED)
    world.seconds += 100
    world.begin("notes-prepare-1")
    world.look()
    second = world.run.status.condition(ConditionType.SUCCEEDED)
    assert first is not None
    assert second is not None
    assert second.reason is Reason.PREPARING
    assert second.last_transition_time == first.last_transition_time


def test_attempts_of_the_same_stage_get_the_same_input_digest() -> None:
    world = World(run())
    world.look()
    world.fail("notes-prepare-1", 143)
    world.look()
    first, second = world.requests["notes-prepare-1"], world.requests["notes-prepare-2"]
    assert first.input_digest == second.input_digest
    assert second.attempt == 2


def test_all_stages_are_named_stages() -> None:
    assert STAGES == (StageName.PREPARE, StageName.TRAIN, StageName.EVALUATE, StageName.PUBLISH)
