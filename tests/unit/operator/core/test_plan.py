"""The plan over a run's life: what starts when, whose child it is, what the status says meanwhile."""

from __future__ import annotations

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.names import STAGES, StageName
from support.runs import run

from .world import World

PREPARE, TRAIN, EVALUATE, PUBLISH = STAGES
UNTIL_GATE = (PREPARE, TRAIN, EVALUATE)


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
