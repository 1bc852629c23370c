"""The store: news in any order, never older than what is known."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_operator.queue import Key
from alignment_operator.records import job_record, pod_record, run_record
from alignment_operator.store import Store
from support.objects import job, pod, run

KEY = Key("team", "notes")
NOTES = (KEY, "run-1")
PUBLISHED = {"conditions": [{"type": "Succeeded", "status": "True", "reason": "Published"}]}


def finished(version: int) -> dict[str, Any]:
    return run(version, status=PUBLISHED)


def test_only_news_are_told() -> None:
    store = Store()
    assert store.put_run(run_record(run(5))) == KEY
    assert store.put_run(run_record(run(5))) is None
    assert store.put_run(run_record(run(4))) is None
    assert store.put_run(run_record(run(6))) == KEY


def test_what_a_controller_writes_without_meaning_to_us_is_taken_in_silently() -> None:
    store = Store()
    assert store.put_job(job_record(job(5))) == KEY
    assert store.put_job(job_record(job(6, status={"active": 1, "ready": 1}))) is None
    assert store.jobs(NOTES)[0].version == "6"
    assert store.put_pod(pod_record(pod(7))) == KEY
    assert store.put_pod(pod_record(pod(8, status={"phase": "Pending", "qosClass": "Burstable"}))) is None


def test_the_dead_do_not_come_back_with_late_news() -> None:
    store = Store()
    store.put_job(job_record(job(5)))
    assert store.delete_job(Key("team", "notes-train-1"), "job-1") == KEY
    assert store.put_job(job_record(job(9))) is None
    assert store.jobs(NOTES) == ()


def test_only_a_live_reading_digs_up_what_was_seen_deleted_and_only_if_it_is_no_older() -> None:
    store = Store()
    store.put_job(job_record(job(9)))
    store.delete_job(Key("team", "notes-train-1"), "job-1")
    store.found_job(job_record(job(8)))
    assert store.jobs(NOTES) == ()
    store.found_job(job_record(job(9)))
    assert len(store.jobs(NOTES)) == 1


def test_the_end_of_an_old_run_does_not_touch_a_new_one_of_the_same_name() -> None:
    store = Store()
    store.put_run(run_record(run(5, uid="run-1")))
    store.put_run(run_record(run(9, uid="run-2")))
    assert store.delete_run(KEY, "run-1") is None
    known = store.run(KEY)
    assert known is not None
    assert known.uid == "run-2"


def test_a_finished_run_keeps_neither_its_body_nor_its_ended_children() -> None:
    store = Store()
    store.put_run(run_record(run(5)))
    store.put_job(job_record(job(6, status={"conditions": [{"type": "Complete", "status": "True"}]})))
    store.put_pod(pod_record(pod(7)))
    store.put_run(run_record(finished(8)))
    known = store.run(KEY)
    assert known is not None
    assert known.body is None
    assert store.jobs(NOTES) == ()
    assert store.pods(NOTES) == ()
    late = job(9, status={"active": 0, "conditions": [{"type": "Complete", "status": "True"}]})
    assert store.put_job(job_record(late)) is None
    assert store.jobs(NOTES) == ()


def test_a_job_that_still_runs_after_the_end_is_remembered_so_that_it_can_be_stopped() -> None:
    store = Store()
    store.put_run(run_record(finished(5)))
    assert store.put_job(job_record(job(6))) == KEY
    assert len(store.jobs(NOTES)) == 1


def test_a_listing_removes_what_it_lacks_but_not_what_is_newer_than_itself() -> None:
    store = Store()
    store.put_run(run_record(run(5, name="old", uid="u-old")))
    store.put_run(run_record(run(20, name="new", uid="u-new")))
    store.put_run(run_record(run(6, name="kept", uid="u-kept")))
    assert store.prune_runs({"u-kept"}, "10", None) == [Key("team", "old")]
    assert {record.key.name for record in store.runs()} == {"new", "kept"}


def test_a_listing_of_one_namespace_says_nothing_of_another() -> None:
    store = Store()
    store.put_run(run_record(run(5)))
    assert store.prune_runs(set(), "10", "elsewhere") == []


def test_labels_that_were_copied_make_no_child() -> None:
    store = Store()
    stray = job(5)
    del stray["metadata"]["ownerReferences"]
    assert store.put_job(job_record(stray)) is None


def test_a_job_that_lost_its_owner_is_no_attempt_any_more_and_its_run_is_told() -> None:
    store = Store()
    store.put_run(run_record(run(4)))
    store.put_job(job_record(job(5)))
    store.put_pod(pod_record(_ended(6)))
    _gone(store)
    let_go = job(8, status={"conditions": [{"type": "Complete", "status": "True"}]})
    let_go["metadata"]["ownerReferences"] = []
    late = job(4)
    late["metadata"]["ownerReferences"] = []
    assert store.put_job(job_record(late)) is None
    assert len(store.jobs(NOTES)) == 1
    assert store.put_job(job_record(let_go)) == KEY
    assert (store.jobs(NOTES), store.pods(NOTES)) == ((), ())
    assert store.put_job(job_record(let_go)) is None


def test_a_job_that_lost_its_owner_is_gone_after_a_live_reading_too() -> None:
    store = Store()
    store.put_job(job_record(job(5)))
    let_go = job(8)
    let_go["metadata"]["ownerReferences"] = []
    store.found_job(job_record(let_go))
    assert store.jobs(NOTES) == ()


def test_whoever_knows_a_runs_uid_cannot_claim_it_from_another_namespace() -> None:
    store = Store()
    store.put_run(run_record(run(5)))
    forged, pod_of_it = job(6, stage="evaluate", attempt=99, uid="job-9"), pod(7, job_uid="job-9")
    for raw in (forged, pod_of_it):
        raw["metadata"]["namespace"] = "elsewhere"
    assert store.put_job(job_record(forged)) != KEY
    assert store.put_pod(pod_record(pod_of_it)) != KEY
    assert store.jobs(NOTES) == ()
    assert store.pods(NOTES) == ()


@pytest.mark.parametrize(
    "name", ["notes-evaluate", "notes-evaluate-0", "notes-evaluate-01", "other-evaluate-1", "notes-gate-1"]
)
def test_what_a_run_owns_is_an_attempt_only_under_an_attempts_name(name: str) -> None:
    store = Store()
    named = job(5, stage="evaluate")
    named["metadata"]["name"] = name
    assert store.put_job(job_record(named)) is None
    assert store.jobs(NOTES) == ()


def test_a_kind_of_the_same_name_in_another_group_owns_nothing() -> None:
    store = Store()
    foreign = job(5)
    foreign["metadata"]["ownerReferences"][0]["apiVersion"] = "alignment.dev.example.org/v1"
    assert store.put_job(job_record(foreign)) is None


def test_a_run_that_a_reading_missed_comes_back_with_the_next_news() -> None:
    store = Store()
    store.put_run(run_record(run(5)))
    store.drop_run(KEY)
    assert store.run(KEY) is None
    assert store.put_run(run_record(run(5))) == KEY


def _ended(version: int) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 143, "finishedAt": "2026-01-05T12:00:00Z"}}
    return pod(
        version,
        status={"phase": "Failed", "containerStatuses": [{"name": "stage", "state": state}]},
    )


def _gone(store: Store) -> Key | None:
    return store.delete_pod(Key("team", "notes-train-1-x"), "pod-1")


def test_a_pods_last_word_outlives_it_until_its_job_is_gone() -> None:
    store = Store()
    store.put_run(run_record(run(4)))
    store.put_job(job_record(job(5)))
    store.put_pod(pod_record(_ended(6)))
    assert _gone(store) == KEY
    assert _gone(store) is None
    store.put_job(job_record(job(7, status={"conditions": [{"type": "Failed", "status": "True"}]})))
    assert [(p.exit_code, p.gone) for p in store.pods(NOTES)] == [(143, True)]
    assert store.prune_pods(set(), "9", None) == []
    store.delete_job(Key("team", "notes-train-1"), "job-1")
    assert store.pods(NOTES) == ()


def test_how_a_pod_ended_that_its_queue_stopped_is_forgotten_with_it() -> None:
    store = Store()
    store.put_run(run_record(run(4)))
    store.put_job(job_record(job(5)))
    store.put_pod(pod_record(_ended(6)))
    _gone(store)
    store.put_job(job_record(job(7, suspend=True)))
    assert store.pods(NOTES) == ()
    late = _ended(8) | {"metadata": _ended(8)["metadata"] | {"uid": "pod-2"}}
    store.put_pod(pod_record(late))
    assert store.delete_pod(Key("team", "notes-train-1-x"), "pod-2") == KEY
    assert store.pods(NOTES) == ()


def test_a_pod_that_said_nothing_leaves_nothing() -> None:
    store = Store()
    store.put_run(run_record(run(4)))
    store.put_job(job_record(job(5)))
    store.put_pod(pod_record(pod(6)))
    assert _gone(store) == KEY
    assert store.pods(NOTES) == ()
