"""Attempts in the plan: what is tried again and what it costs, stops, suspension, deadlines."""

from __future__ import annotations

import pytest

from alignment_api.conditions import Reason
from alignment_api.names import STAGES, StageName
from alignment_api.stage import StageResult
from alignment_operator.core.observed import AttemptState
from support.runs import result, run

from .world import World, with_spec

PREPARE, TRAIN, EVALUATE, PUBLISH = STAGES
UNTIL_GATE = (PREPARE, TRAIN, EVALUATE)


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
        world.look()
        world.seconds += 61
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


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        (EVALUATE, result(EVALUATE, evidence=None)),
        (PREPARE, result(PREPARE, pins=None)),
        (PREPARE, result(TRAIN)),
        (PUBLISH, result(PUBLISH, published=None)),
    ],
)
def test_a_result_that_does_not_fit_its_stage_says_that_versions_differ(
    stage: StageName, answer: StageResult
) -> None:
    world = World(run(backoffLimit=0))
    world.through(*STAGES[: STAGES.index(stage)])
    world.begin(f"notes-{stage}-1")
    world.change(f"notes-{stage}-1", state=AttemptState.SUCCEEDED, result=answer, exit_code=0)
    world.look()
    assert world.reason is Reason.STAGE_FAILED
    failure = world.run.status.last_failure
    assert failure is not None
    assert failure.reason == "VersionsDiffer"
    assert "operator and trainer image are of different versions" in failure.message
    assert world.run.status.stage(stage).end_time is None


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
