"""Training that is cut short goes on from its checkpoint, and ends as if nothing had happened."""

from __future__ import annotations

from typing import Any

import pytest
from tools.cluster.shell import Failed

from support.cluster import Team, reason, train_stage
from support.training import LONG, evict, until_checkpoint


def apply_long(notes: Team, **changes: Any) -> None:
    notes.apply(training=LONG, backoffLimit=1, **changes)


def losses(notes: Team, run: str = "notes") -> dict[int, float]:
    """Step to loss, as the candidate's record has them."""
    uid = notes.run(run)["metadata"]["uid"][:8]
    (key,) = [
        key
        for key in notes.objects(f"artifacts/runs/{notes.name}/{run}-{uid}/")
        if key.endswith("/training.json")
    ]
    return {entry["step"]: entry["loss"] for entry in notes.read(key)["curve"] if "loss" in entry}


def test_a_killed_trainer_resumes_and_its_loss_curve_is_that_of_an_undisturbed_run(notes: Team) -> None:
    apply_long(notes)
    pod = until_checkpoint(notes)
    notes.kubectl("-n", notes.name, "delete", "pod", pod, "--grace-period=0", "--force")
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert train_stage(status)["attempt"] == 2
    disturbed = losses(notes)

    twin = notes.manifest("twin", training=LONG, publish={"uri": f"s3://{notes.name}/twins/"})
    notes.kubectl.apply(twin)
    assert reason(notes.until_ended("twin")) == "Published"
    undisturbed = losses(notes, "twin")
    assert list(disturbed) == list(undisturbed)
    assert disturbed == pytest.approx(undisturbed, rel=1e-3)


def test_a_trainer_that_somebody_deletes_saves_and_goes_on_without_spending_an_attempt(notes: Team) -> None:
    notes.apply(training=LONG, backoffLimit=0)
    pod = until_checkpoint(notes)
    notes.kubectl("-n", notes.name, "delete", "pod", pod, "--wait=false")
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert train_stage(status).get("failures", 0) == 0
    assert train_stage(status)["preemptions"] == 1


def test_an_evicted_trainer_saves_and_goes_on_without_spending_an_attempt(notes: Team) -> None:
    apply_long(notes)
    pod = until_checkpoint(notes)
    evict(notes, pod)
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert train_stage(status)["preemptions"] == 1
    assert train_stage(status).get("failures", 0) == 0


def test_suspending_stops_the_pod_and_going_on_ends_well(notes: Team) -> None:
    apply_long(notes)
    until_checkpoint(notes)
    notes.patch({"spec": {"suspend": True}})
    notes.until("it is suspended", lambda s: reason(s) == "Suspended", seconds=120)
    notes.until_so(
        "no pod trains", lambda: not [p for p in notes.pods("train") if p["status"]["phase"] == "Running"]
    )
    with pytest.raises(Failed, match="immutable"):
        notes.patch({"spec": {"training": {"beta": 0.5}}})
    notes.patch({"spec": {"suspend": False}})
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert train_stage(status).get("failures", 0) == 0


def test_a_job_deleted_by_hand_is_replaced_and_the_run_ends_well(notes: Team) -> None:
    apply_long(notes)
    until_checkpoint(notes)
    notes.kubectl("-n", notes.name, "delete", "job", "notes-train-1")
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert "notes-train-2" in notes.jobs()


def test_a_run_deleted_while_training_takes_everything_with_it(notes: Team) -> None:
    apply_long(notes)
    until_checkpoint(notes)
    notes.kubectl("-n", notes.name, "delete", "alignmentrun", "notes", "--timeout=60s")
    notes.until_so("Jobs and pods are gone", lambda: not notes.jobs() and not notes.pods())
    assert notes.objects("models/") == []
