"""What Jobs and pods amount to for the plan."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api.names import StageName
from alignment_api.stage import PEER_LOST, StageFailure, StageResult
from alignment_operator.core.observed import Attempt, AttemptState
from alignment_operator.core.outcome import OutcomeKind, classify
from alignment_operator.observe import View, observe
from alignment_operator.records import job_record, pod_record, run_record
from support.objects import job, pod, run
from support.runs import result

DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
T0, T1, T2, T3 = (f"2026-01-05T12:0{minute}:00Z" for minute in range(4))
NO_TIME = "1970-01-01T00:00:00Z"


def ended(code: int, *, message: str = "", at: str = T2, since: str = T1, reason: str = "") -> dict[str, Any]:
    terminated = {
        "exitCode": code,
        "startedAt": since,
        "finishedAt": at,
        "message": message,
        "reason": reason,
    }
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": "stage", "state": {"terminated": terminated}}],
    }


def running(since: str = T1) -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "containerStatuses": [{"name": "stage", "state": {"running": {"startedAt": since}}}],
    }


def over(kind: str, reason: str = "") -> dict[str, Any]:
    return {
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": T3}
        ]
    }


def look(job_raw: dict[str, Any], *pods: dict[str, Any], words: dict[str, str] | None = None) -> View:
    record = run_record(run(1))
    return observe(record.parse(), (job_record(job_raw),), tuple(map(pod_record, pods)), words=words)


def seen(job_raw: dict[str, Any], *pods: dict[str, Any], words: dict[str, str] | None = None) -> Attempt:
    return look(job_raw, *pods, words=words).observed.attempts[0]


def test_a_job_without_a_pod_waits_and_is_asked_why() -> None:
    view = look(job(2))
    assert view.observed.attempts[0].state is AttemptState.PENDING
    assert [(record.key.name, starting) for record, starting in view.mute] == [("notes-train-1", None)]


def test_the_scheduler_is_quoted() -> None:
    status = {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes: no GPU",
            }
        ],
    }
    view = look(job(2), pod(3, status=status))
    assert view.observed.attempts[0].message == "Unschedulable: 0/3 nodes: no GPU"
    assert view.mute == ()


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_an_image_that_cannot_be_pulled_reads_the_same_at_every_try(reason: str) -> None:
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": "stage", "state": {"waiting": {"reason": reason, "message": reason}}}],
    }
    message = seen(job(2), pod(3, status=status)).message
    assert message == "The image trainer:1 cannot be pulled; check its name and spec.pods.imagePullSecrets."


def test_a_suspended_job_gives_the_queues_words() -> None:
    attempt = seen(job(2, suspend=True), pod(3, status=running()), words={"job-1": "Kueue: no quota"})
    assert (attempt.state, attempt.message, attempt.started) == (
        AttemptState.PENDING,
        "Kueue: no quota",
        None,
    )


def test_a_running_pod_makes_a_running_attempt() -> None:
    attempt = seen(job(2), pod(3, status=running()))
    assert attempt.state is AttemptState.RUNNING
    assert attempt.started is not None


def test_a_pod_that_its_node_does_not_get_to_start_is_asked_about() -> None:
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "stage", "state": {"waiting": {"reason": "ContainerCreating"}}}],
    }
    ((_, starting),) = look(job(2), pod(3, status=status)).mute
    assert starting is not None
    assert starting.key.name == "notes-train-1-x"


def test_a_container_that_somebody_injected_does_not_speak_for_the_stage() -> None:
    waiting = {"reason": "ImagePullBackOff"}
    statuses = [
        {"name": "istio-proxy", "state": {"running": {"startedAt": T1}}},
        {"name": "stage", "state": {"waiting": waiting}},
    ]
    attempt = seen(job(2), pod(3, status={"phase": "Pending", "containerStatuses": statuses}))
    assert attempt.state is AttemptState.PENDING
    assert "trainer:1 cannot be pulled" in attempt.message
    statuses = [
        {"name": "istio-proxy", "state": {"terminated": {"exitCode": 0, "message": ""}}},
        *ended(65, message=StageFailure(reason="DataInvalid", message="row 7").to_termination_message())[
            "containerStatuses"
        ],
    ]
    status = {"phase": "Failed", "containerStatuses": statuses}
    assert seen(job(2, status=over("Failed")), pod(3, status=status)).exit_code == 65


def test_a_gang_runs_once_all_of_it_runs() -> None:
    alone = {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
        ],
    }
    first = pod(3, name="a", uid="pod-0", index=0, status=running())
    attempt = seen(job(2, completions=2), first, pod(4, name="b", index=1, status=alone))
    assert (attempt.state, attempt.message) == (AttemptState.PENDING, "Unschedulable: no GPU")
    attempt = seen(job(2, completions=2), first, pod(4, name="b", index=1, status=running()))
    assert attempt.state is AttemptState.RUNNING


def test_a_pod_whose_job_is_gone_is_left_over_until_it_ends() -> None:
    record = run_record(run(1)).parse()
    orphan = pod(3, status=running())
    orphan["metadata"]["deletionTimestamp"] = T3
    (left,) = observe(record, (), (pod_record(orphan),)).observed.leftovers
    assert (left.name, left.stage) == ("notes-train-1-x", StageName.TRAIN)
    assert left.until is not None
    assert observe(record, (), (pod_record(pod(4, status=ended(143))),)).observed.leftovers == ()
    assert observe(record, (job_record(job(2)),), (pod_record(orphan),)).observed.leftovers == ()


def test_an_eviction_for_the_pods_own_doing_is_no_disruption() -> None:
    evicted = ended(143) | {"reason": "Evicted", "message": 'volume "scratch" exceeds the limit'}
    attempt = seen(job(2, status=over("Failed")), pod(3, status=evicted))
    assert (attempt.disrupted, attempt.evicted) == (False, 'volume "scratch" exceeds the limit')
    drained = evicted | {"conditions": [DISRUPTED]}
    attempt = seen(job(2, status=over("Failed")), pod(3, status=drained))
    assert (attempt.disrupted, attempt.evicted) == (True, "")


@pytest.mark.parametrize("code", [137, 143])
def test_an_eviction_counts_in_the_kubelets_words_whatever_the_stage_said(code: int) -> None:
    words = 'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi".'
    message = StageFailure(reason="Stopped", message="on request").to_termination_message()
    evicted = ended(code, message=message) | {"reason": "Evicted", "message": words}
    outcome = classify(seen(job(2, status=over("Failed")), pod(3, status=evicted)))
    assert (outcome.kind, outcome.reason) == (OutcomeKind.COUNTED, "Evicted")
    assert words in outcome.message


def test_the_words_of_a_pod_that_was_replaced_do_not_keep_the_next_one_from_being_asked() -> None:
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "low on disk", "conditions": [DISRUPTED]}
    starting = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}
    view = look(job(2), pod(3, name="a", uid="pod-0", status=evicted), pod(4, name="b", status=starting))
    assert [at.uid for _, at in view.mute if at] == ["pod-1"]


def test_a_pod_that_was_told_to_stop_and_has_not_is_named_with_its_node() -> None:
    first, second = (
        pod(3 + index, name=f"pod-{index}", uid=f"pod-{index}", index=index, status=running())
        for index in range(2)
    )
    for raw, until in ((first, T3), (second, T2)):
        raw["metadata"]["deletionTimestamp"] = until
        raw["spec"]["nodeName"] = "gpu7"
    stopping = seen(job(2, completions=2), first, second).stopping
    assert stopping is not None
    assert (stopping.name, stopping.node) == ("pod-1", "gpu7")
    assert seen(job(2), first | {"status": ended(143)}).stopping is None
    assert seen(job(2, status=over("Failed")), first).stopping is None


def test_labels_that_were_copied_leave_nothing_over() -> None:
    stray = pod(3, status=running())
    stray["metadata"]["ownerReferences"] = []
    assert observe(run_record(run(1)).parse(), (), (pod_record(stray),)).observed.leftovers == ()


def test_a_job_whose_pod_vanished_unread_says_so() -> None:
    assert seen(job(2, status=over("Failed", "BackoffLimitExceeded"))).unread
    assert not seen(job(2, status=over("Failed", "DeadlineExceeded"))).unread


def test_a_pod_that_ended_before_its_job_knows_still_counts_as_running() -> None:
    assert seen(job(2), pod(3, status=ended(0))).state is AttemptState.RUNNING


def test_success_brings_the_result_of_the_pod_that_succeeded() -> None:
    message = result(StageName.TRAIN).to_termination_message()
    drained = ended(143, since=T0, at=T1) | {"conditions": [DISRUPTED]}
    attempt = seen(
        job(2, status=over("Complete")),
        pod(3, name="first", uid="pod-0", status=drained),
        pod(4, name="second", status=ended(0, message=message)),
    )
    assert attempt.state is AttemptState.SUCCEEDED
    assert isinstance(attempt.result, StageResult)


def test_a_job_that_is_over_without_its_pods_last_word_is_unsettled() -> None:
    assert look(job(2, status=over("Complete")), pod(3, status=running())).unsettled
    assert look(job(2, status=over("Failed"))).unsettled
    assert not look(job(2, status=over("Failed")), pod(3, status=ended(1))).unsettled


def test_an_attempt_that_is_recorded_already_needs_no_last_word() -> None:
    record = run_record(run(1, status={"stages": [{"name": "train", "attempt": 2}]}))
    view = observe(record.parse(), (job_record(job(2, status=over("Failed"))),), ())
    assert view.unsettled == ()


@pytest.mark.parametrize("deleting", [True, False])
def test_of_an_attempt_that_is_over_it_is_known_whether_somebody_deleted_it(deleting: bool) -> None:
    raw = job(2, status=over("Failed"))
    if deleting:
        raw["metadata"]["deletionTimestamp"] = T2
    attempt = seen(raw, pod(3, status=ended(137)))
    assert (attempt.state, attempt.deleting) == (AttemptState.FAILED, deleting)


def test_a_failure_brings_the_stages_own_words() -> None:
    message = StageFailure(reason="DataInvalid", message="row 7").to_termination_message()
    attempt = seen(job(2, status=over("Failed")), pod(3, status=ended(65, message=message)))
    assert attempt.failure == StageFailure(reason="DataInvalid", message="row 7")
    assert (attempt.exit_code, attempt.disrupted) == (65, False)


def test_a_pod_drained_earlier_does_not_excuse_the_failure_of_its_replacement() -> None:
    drained = ended(143, since=T0, at=T1) | {"conditions": [DISRUPTED]}
    attempt = seen(
        job(2, status=over("Failed", "BackoffLimitExceeded")),
        pod(3, name="first", uid="pod-0", status=drained),
        pod(4, name="second", status=ended(1)),
    )
    assert (attempt.exit_code, attempt.disrupted) == (1, False)


def test_a_gang_of_which_one_was_drained_did_not_fail_by_itself() -> None:
    drained = ended(143, at=T3) | {"conditions": [DISRUPTED]}
    attempt = seen(
        job(2, status=over("Failed", "PodFailurePolicy"), completions=2),
        pod(3, name="a", uid="pod-0", index=0, status=ended(1, at=T2)),
        pod(4, name="b", index=1, status=drained),
    )
    assert attempt.disrupted


@pytest.mark.parametrize("code", [1, 65, 143])
def test_of_a_gang_the_pod_that_failed_speaks_and_not_one_that_lost_it(code: int) -> None:
    lost = StageFailure(reason=PEER_LOST, message="the others").to_termination_message()
    attempt = seen(
        job(2, status=over("Failed", "BackoffLimitExceeded"), completions=2),
        pod(3, name="a", uid="pod-0", index=0, status=ended(75, message=lost, at=T1)),
        pod(4, name="b", index=1, status=ended(code, at=T2)),
    )
    assert attempt.exit_code == code


def test_bad_data_ends_the_run_even_when_a_pod_of_the_gang_was_drained() -> None:
    drained = ended(143, at=T3) | {"conditions": [DISRUPTED]}
    attempt = seen(
        job(2, status=over("Failed", "BackoffLimitExceeded"), completions=2),
        pod(3, name="a", uid="pod-0", index=0, status=ended(65, at=T2)),
        pod(4, name="b", index=1, status=drained),
    )
    assert (attempt.exit_code, attempt.disrupted) == (65, False)


def test_a_pod_that_never_ran_leaves_the_clusters_words() -> None:
    status = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active too long"}
    attempt = seen(job(2, status=over("Failed", "BackoffLimitExceeded")), pod(3, status=status))
    assert (attempt.exit_code, attempt.message) == (None, "DeadlineExceeded: Pod was active too long")


@pytest.mark.parametrize("reason", ["StartError", "ContainerCannotRun"])
def test_a_container_that_could_not_be_started_leaves_the_runtimes_words(reason: str) -> None:
    words = 'exec: "alignment-trainer": executable file not found in $PATH\n' + "x" * 1000
    view = look(job(2, status=over("Failed")), pod(3, status=ended(128, message=words, reason=reason)))
    (attempt,) = view.observed.attempts
    outcome = classify(attempt)
    assert (outcome.kind, outcome.reason, outcome.exit_code) == (OutcomeKind.COUNTED, "NeverRan", None)
    assert outcome.message.startswith(f'{reason}: exec: "alignment-trainer": executable file not found')
    assert len(outcome.message) < 600
    assert view.unsettled == ()


@pytest.mark.parametrize("since", [T1, NO_TIME])
@pytest.mark.parametrize("over_already", [True, False])
def test_a_container_that_could_not_be_started_has_not_run_a_second(since: str, over_already: bool) -> None:
    status = ended(128, since=since, reason="StartError")
    attempt = seen(job(2, status=over("Failed") if over_already else {}), pod(3, status=status))
    assert attempt.started is None
    assert attempt.state is (AttemptState.FAILED if over_already else AttemptState.PENDING)


def test_an_end_without_a_start_is_no_run_since_1970() -> None:
    attempt = seen(job(2, status=over("Failed")), pod(3, status=ended(137, since=NO_TIME)))
    assert (attempt.started, attempt.exit_code) == (None, 137)


def test_last_words_that_are_not_in_our_form_are_quoted() -> None:
    attempt = seen(job(2, status=over("Failed")), pod(3, status=ended(1, message="no such\noption")))
    outcome = classify(attempt)
    assert (outcome.reason, outcome.exit_code) == ("Crashed", 1)
    assert outcome.message.endswith("its log has the cause. no such option")


def test_out_of_memory_is_named() -> None:
    attempt = seen(job(2, status=over("Failed")), pod(3, status=ended(137, reason="OOMKilled")))
    assert (attempt.exit_code, attempt.message) == (137, "OOMKilled")


def test_pods_of_an_earlier_job_of_the_same_name_do_not_speak() -> None:
    attempt = seen(job(2, uid="job-2"), pod(3, job_uid="job-1", status=running()))
    assert attempt.state is AttemptState.PENDING


def test_a_job_of_another_run_of_the_same_name_is_not_ours() -> None:
    stranger = job(2)
    stranger["metadata"]["ownerReferences"][0]["uid"] = "run-0"
    assert look(stranger).observed.attempts == ()
