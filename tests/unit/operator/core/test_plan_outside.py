"""How attempts are paced, charged and waited for when others than the stage end them."""

from __future__ import annotations

import pytest

from alignment_api.conditions import Reason
from alignment_api.names import StageName
from alignment_api.status import ProgressStatus
from alignment_operator.core.observed import AttemptState, Leftover
from support.runs import at, run

from .world import World, with_spec

PREPARE = StageName.PREPARE


def test_attempts_that_are_ended_as_soon_as_they_begin_come_slower_and_slower() -> None:
    world = World(run(backoffLimit=0))
    pauses = []
    for attempt in range(1, 8):
        pause = world.look().requeue_seconds or 0.0
        world.seconds += pause
        world.look()
        pauses.append(pause)
        world.begin(f"notes-prepare-{attempt}")
        world.look()
        world.seconds += 1
        world.fail(f"notes-prepare-{attempt}", 143)
    assert pauses == [0, 0, 0, 0, 10, 20, 40]
    assert world.run.status.stage(PREPARE).failures == 0


def test_only_a_short_attempt_is_followed_by_a_pause_however_long_the_ones_before_it_were() -> None:
    world = World(run(backoffLimit=0))
    pauses = []
    for attempt, seconds in enumerate((600, 600, 600, 600, 1, 600), 1):
        world.look()
        world.begin(f"notes-prepare-{attempt}")
        world.look()
        world.seconds += seconds
        world.fail(f"notes-prepare-{attempt}", 143)
        pauses.append(world.look().requeue_seconds or 0.0)
        world.seconds += pauses[-1]
    assert pauses == [0, 0, 0, 0, 20, 0]


def test_attempts_that_a_person_ends_and_starts_again_do_not_wait() -> None:
    world = World(run(backoffLimit=0))
    for attempt in range(1, 8):
        world.look()
        assert world.started[-1] == f"notes-prepare-{attempt}"
        world.begin(f"notes-prepare-{attempt}")
        world.look()
        world.fail(f"notes-prepare-{attempt}", 143)
        world.change(f"notes-prepare-{attempt}", by_hand=True)


@pytest.mark.parametrize("code", [143, 137])
def test_a_pod_that_is_evicted_for_what_it_did_itself_counts_and_quotes_the_kubelet(code: int) -> None:
    world = World(run(backoffLimit=1))
    world.look()
    world.begin("notes-prepare-1")
    world.fail("notes-prepare-1", code)
    world.change("notes-prepare-1", evicted='Usage of EmptyDir volume "scratch" exceeds the limit "10Gi".')
    world.look()
    failure = world.run.status.last_failure
    assert failure is not None
    assert (failure.reason, world.run.status.stage(PREPARE).failures) == ("Evicted", 1)
    assert 'volume "scratch" exceeds the limit' in failure.message


def test_a_failure_that_nobody_could_read_says_so() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.fail("notes-prepare-1", None)
    world.change("notes-prepare-1", unread=True, message="Job has reached the specified backoff limit")
    world.look()
    failure = world.run.status.last_failure
    assert failure is not None
    assert failure.reason == "Deleted"
    assert "its pod was deleted before anybody could read why" in failure.message


def test_suspending_an_attempt_that_waits_costs_nothing_even_when_its_job_is_gone_before_the_status_says_so() -> (
    None
):
    world = World(run(backoffLimit=0))
    world.look()
    with_spec(world, suspend=True)
    world.look(write_status=False)
    assert world.stopped == ["notes-prepare-1"]
    del world.attempts["notes-prepare-1"]
    world.look()
    assert world.reason is Reason.SUSPENDED
    assert world.run.status.stage(PREPARE).failures == 0
    with_spec(world, suspend=False)
    world.look()
    assert world.started[-1] == "notes-prepare-2"


@pytest.mark.parametrize("code", [1, 75, 137, 143, None])
def test_suspending_costs_nothing_however_the_stage_took_it_and_going_on_does_not_wait(
    code: int | None,
) -> None:
    world = World(run(backoffLimit=0))
    for attempt in range(1, 6):
        name = f"notes-prepare-{attempt}"
        world.look()
        assert world.started[-1] == name
        world.begin(name)
        world.look()
        with_spec(world, suspend=True)
        world.look()
        world.change(name, deleting=True)
        world.fail(name, code)
        world.look()
        assert world.reason is Reason.SUSPENDED
        with_spec(world, suspend=False)
    stage = world.run.status.stage(PREPARE)
    assert (stage.failures, stage.preemptions, stage.exit_reason) == (0, 5, "Suspended")
    assert world.run.status.last_failure is None


def test_a_result_that_a_suspended_attempt_still_brought_counts() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    with_spec(world, suspend=True)
    world.look()
    world.change("notes-prepare-1", deleting=True)
    world.succeed("notes-prepare-1")
    world.look()
    assert world.run.status.stage(PREPARE).end_time is not None


@pytest.mark.parametrize(
    ("code", "deleting", "suspend"), [(1, True, False), (1, False, True), (65, True, True)]
)
def test_what_suspending_did_not_do_is_not_excused_by_it(code: int, deleting: bool, suspend: bool) -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    with_spec(world, suspend=suspend)
    world.change("notes-prepare-1", deleting=deleting)
    world.fail("notes-prepare-1", code, "Broken")
    world.look()
    failure = world.run.status.last_failure
    assert failure is not None
    assert failure.reason == "Broken"


@pytest.mark.parametrize(("last_word", "charged"), [(30, 30), (None, 0)])
def test_of_an_attempt_that_went_while_the_operator_was_away_only_what_is_known_is_charged(
    last_word: int | None, charged: int
) -> None:
    world = World(run(activeDeadlineSeconds=100))
    world.look()
    world.begin("notes-prepare-1")
    if last_word is not None:
        world.progress = ProgressStatus(
            stage=PREPARE, step=1, steps=2, percent=50, updated_time=at(last_word)
        )
    world.look()
    world.seconds += 100_000
    world.progress = None
    del world.attempts["notes-prepare-1"]
    world.look()
    assert world.reason is Reason.RETRYING
    assert world.run.status.stage(PREPARE).running_seconds == charged


def test_the_pod_of_a_deleted_attempt_is_waited_for_but_not_for_ever() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    del world.attempts["notes-prepare-1"]
    world.leftovers = (Leftover("notes-prepare-1-x", PREPARE, at(300), "node1"),)
    world.look()
    world.seconds += 10
    assert world.look().requeue_seconds == 350
    assert world.reason is Reason.RETRYING
    assert "notes-prepare-1-x of a deleted attempt is being stopped" in world.message
    assert world.started == ["notes-prepare-1"]
    world.seconds = 360  # its node is gone: nobody will ever say that it has ended
    world.look()
    assert world.started[-1] == "notes-prepare-2"


def test_an_attempt_whose_node_is_gone_is_given_up_free_of_charge_and_says_which_node() -> None:
    world = World(run(backoffLimit=0))
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    world.change("notes-prepare-1", stopping=Leftover("notes-prepare-1-x", PREPARE, at(300), "gpu7"))
    assert world.look().requeue_seconds == 360
    assert world.reason is Reason.PREPARING
    world.seconds = 360
    planned = world.look()
    assert (planned.actions, planned.requeue_seconds) == ((), 0)
    assert world.reason is Reason.RETRYING
    assert "pod notes-prepare-1-x should have ended by 12:05:00 UTC" in world.message
    assert "kubectl delete node gpu7" in world.message
    world.look()
    assert world.stopped == ["notes-prepare-1"]
    world.look()
    assert world.started[-1] == "notes-prepare-2"
    stage = world.run.status.stage(PREPARE)
    assert (stage.failures, stage.preemptions, stage.running_seconds) == (0, 1, 300)


def test_a_suspended_attempt_whose_node_is_gone_does_not_stop_for_ever() -> None:
    world = World(run())
    world.look()
    world.begin("notes-prepare-1")
    world.look()
    with_spec(world, suspend=True)
    world.change(
        "notes-prepare-1",
        state=AttemptState.STOPPING,
        stopping=Leftover("notes-prepare-1-x", PREPARE, at(60), "gpu7"),
    )
    assert world.look().requeue_seconds == 120
    world.seconds = 120
    for _ in range(3):
        world.look()
    assert world.stopped == ["notes-prepare-1"]
    assert world.reason is Reason.SUSPENDED
    assert world.started == ["notes-prepare-1"]


def test_what_the_cluster_refuses_is_tried_less_and_less_often() -> None:
    world = World(run())
    metadata = world.run.metadata.model_copy(update={"creation_timestamp": at(0)})
    world.run = world.run.model_copy(update={"metadata": metadata})
    world.refusal = "exceeded quota: count/jobs.batch"
    pauses = []
    for _ in range(20):
        pauses.append(world.look().requeue_seconds or 0.0)
        world.seconds += pauses[-1]
    assert pauses[0] == 15
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300
