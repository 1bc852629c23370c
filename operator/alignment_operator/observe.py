"""From records of Jobs and pods to what the plan reads. Pure, but for the records it is given.

Order of trust: the Job says whether an attempt is over, its pods say how. A Job that is over while the pods' last
word has not reached the store yet is *unsettled*: the caller reads the pods live before anything is concluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from alignment_api.exitcodes import StageExit
from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import PEER_LOST, StageFailure, StageResult, read_termination_message
from alignment_api.status import ProgressStatus
from alignment_operator.core.observed import Attempt, AttemptState, Leftover, Observed
from alignment_operator.queue import Key
from alignment_operator.records import NOT_STARTED, JobRecord, PodRecord

__all__ = ["View", "observe"]

_STAGES = {str(stage): stage for stage in StageName}
_POLICY = "PodFailurePolicy"
"""Reason of a Job that failed by a rule of its podFailurePolicy; our only failing rule is about disruptions."""

_FAILED_POD = "BackoffLimitExceeded"
"""Reason of a Job of ours of which a pod failed."""

_LAST_WORDS = 500
"""Characters that are quoted of a message that is not in our form."""


@dataclass(frozen=True, slots=True)
class View:
    """What was observed, and what is missing for certainty.

    unsettled: Jobs that are over without a last word of their pods. mute: Jobs that wait and do not say why, each
    with its pod that a node is starting, if there is one.
    """

    observed: Observed
    unsettled: tuple[JobRecord, ...]
    mute: tuple[tuple[JobRecord, PodRecord | None], ...]


def observe(
    run: AlignmentRun,
    jobs: tuple[JobRecord, ...],
    pods: tuple[PodRecord, ...],
    *,
    words: Mapping[str, str] | None = None,
    foreign: frozenset[str] = frozenset(),
    refusal: str = "",
    progress: ProgressStatus | None = None,
) -> View:
    """What there is of a run.

    words: why a Job waits, by its uid, as found out elsewhere (quota, queue).
    """
    attempts, unsettled, mute = [], [], []
    identity = Key(run.metadata.namespace, run.metadata.name), run.metadata.uid
    for job in jobs:
        stage = _STAGES.get(job.stage)
        if stage is None or job.owner != identity:
            continue
        own = tuple(pod for pod in pods if pod.job_uid == job.uid)
        recorded = run.status.stage(stage)
        ran = job.attempt == recorded.attempt and recorded.attempt_start_time is not None
        attempt = _attempt(job, stage, own, (words or {}).get(job.uid, ""), ran=ran)
        attempts.append(attempt)
        if job.attempt < recorded.attempt:
            continue  # recorded long ago
        if _lacks_last_word(attempt, own):
            unsettled.append(job)
        if attempt.state is AttemptState.PENDING and not any(
            pod.words for pod in own if pod.phase != "Failed"
        ):
            mute.append((job, next((pod for pod in own if pod.starting), None)))
    observed = Observed(
        run=run,
        attempts=tuple(attempts),
        foreign_names=foreign,
        launch_refusal=refusal,
        progress=progress,
        leftovers=_leftovers(jobs, pods),
    )
    return View(observed, tuple(unsettled), tuple(mute))


def _leftovers(jobs: tuple[JobRecord, ...], pods: tuple[PodRecord, ...]) -> tuple[Leftover, ...]:
    """Pods that have not ended and whose Job is not there (any more): it was deleted before them."""
    known = {job.uid for job in jobs}
    return tuple(
        Leftover(pod.key.name, _STAGES[pod.stage], _time(pod.deletion), pod.node)
        for pod in pods
        if pod.job_uid  # labels may be copied along with a manifest
        and pod.job_uid not in known
        and pod.stage in _STAGES
        and _lives(pod)
    )


def _stopping(stage: StageName, pods: tuple[PodRecord, ...]) -> Leftover | None:
    """Of the pods that their nodes were told to stop and that have not ended, the one whose time is over first."""
    told = [(pod.deletion, pod) for pod in pods if pod.deletion is not None and pod.node and _lives(pod)]
    if not told:
        return None
    until, pod = min(told, key=lambda item: (item[0], item[1].key.name))
    return Leftover(pod.key.name, stage, _time(until), pod.node)


def _lives(pod: PodRecord) -> bool:
    return pod.ended is None and pod.phase not in ("Failed", "Succeeded")


def _attempt(
    job: JobRecord, stage: StageName, pods: tuple[PodRecord, ...], words: str, *, ran: bool
) -> Attempt:
    """One attempt. ran: it is known to have been under way already."""
    leader = _leader(job, pods)
    attempt = Attempt(
        stage=stage,
        number=job.attempt,
        name=job.key.name,
        state=AttemptState.PENDING,
        started=_time(leader.running_since) if leader else None,
        deleting=job.deleting,
    )
    if not job.over:
        attempt = replace(attempt, stopping=_stopping(stage, pods))
    if job.complete:
        return _succeeded(attempt, job, leader)
    if job.failed:
        return _failed(attempt, job, pods)
    if job.deleting:
        return replace(attempt, state=AttemptState.STOPPING)
    if job.suspended:
        waits = words or f"{job.key.name} is suspended, by its queue or by hand."
        return replace(attempt, started=None, message=waits)
    together = len({pod.index for pod in pods if pod.running_since is not None}) >= job.nodes
    if (
        leader is not None
        and leader.running_since is not None
        and not _ended_from_outside(leader)
        and (together or ran)  # a gang works once all of it is there
    ):
        return replace(attempt, state=AttemptState.RUNNING)
    waiting = [pod for pod in pods if pod.phase != "Failed"]
    said = next((pod.words for pod in (*waiting, *pods) if pod.words), "")
    return replace(attempt, started=None, message=words or said)


def _succeeded(attempt: Attempt, job: JobRecord, leader: PodRecord | None) -> Attempt:
    word = read_termination_message(leader.message) if leader and leader.message else None
    return replace(
        attempt,
        state=AttemptState.SUCCEEDED,
        ended=_time(job.ended),
        result=word if isinstance(word, StageResult) else None,
        exit_code=0,
    )


def _failed(attempt: Attempt, job: JobRecord, pods: tuple[PodRecord, ...]) -> Attempt:
    culprit = _culprit(pods)
    word = read_termination_message(culprit.message) if culprit and culprit.message else None
    ran = culprit is not None and culprit.exit_reason not in NOT_STARTED
    code = culprit.exit_code if culprit and ran else None
    final = code in (StageExit.REQUEST_INVALID, StageExit.DATA_INVALID)
    if culprit is None:
        said = next((pod.words for pod in pods if pod.words), "") or job.message
    else:
        said = _last_words(culprit, readable=word is not None)
    unread = not pods and job.reason == _FAILED_POD
    return replace(
        attempt,
        state=AttemptState.FAILED,
        ended=_time(job.ended),
        failure=word if isinstance(word, StageFailure) else None,
        exit_code=code,
        disrupted=not final and _was_disrupted(job, culprit, pods),
        evicted=culprit.evicted if culprit else "",
        unread=unread,
        message=said,
    )


def _last_words(pod: PodRecord, *, readable: bool) -> str:
    """What is known of a pod's end besides what its stage said."""
    reason = pod.exit_reason if pod.exit_reason != "Error" else ""
    message = "" if readable else " ".join(pod.message.split())[:_LAST_WORDS]
    return ": ".join(filter(None, (reason, message)))


def _was_disrupted(job: JobRecord, culprit: PodRecord | None, pods: tuple[PodRecord, ...]) -> bool:
    """True when the attempt ended from outside.

    Of a gang, one pod drained is enough: the others fail because of it. A single pod may have been drained
    earlier and replaced by its Job; only the pod whose end ended the attempt counts.
    """
    if job.reason == _POLICY:
        return True
    if job.nodes > 1 or culprit is None:
        return any(pod.disrupted for pod in pods)
    return culprit.disrupted


def _leader(job: JobRecord, pods: tuple[PodRecord, ...]) -> PodRecord | None:
    """The pod that speaks for the attempt: index 0; of several the one that succeeded, else the newest."""
    candidates = [pod for pod in pods if pod.index == 0]
    if job.complete:
        candidates = [pod for pod in candidates if pod.exit_code == 0] or candidates
    running = [pod for pod in candidates if pod.ended is None and not _ended_from_outside(pod)]
    return max(running or candidates, key=lambda pod: (pod.running_since or "", pod.key.name), default=None)


def _ended_from_outside(pod: PodRecord) -> bool:
    """True for a pod that its Job replaces, or will in a moment."""
    return pod.disrupted and (pod.phase == "Failed" or pod.ended is not None)


def _culprit(pods: tuple[PodRecord, ...]) -> PodRecord | None:
    """The pod whose end ended the attempt.

    The first that failed by itself; those that were drained, those told to stop, and those that lost another one, only if
    there is none.
    """
    failed = [pod for pod in pods if pod.exit_code not in (None, 0)]
    return min(
        failed,
        key=lambda pod: (pod.disrupted, _second_hand(pod), pod.ended or "", pod.key.name),
        default=None,
    )


def _second_hand(pod: PodRecord) -> int:
    """How far a failed pod is from the cause: it failed by itself, it was told to stop, it lost another one."""
    word = read_termination_message(pod.message) if pod.message else None
    lost = isinstance(word, StageFailure) and word.reason == PEER_LOST
    return 2 if lost else int(pod.exit_code == StageExit.STOPPED)


def _lacks_last_word(attempt: Attempt, pods: tuple[PodRecord, ...]) -> bool:
    if attempt.state is AttemptState.SUCCEEDED:
        return attempt.result is None
    return attempt.state is AttemptState.FAILED and _culprit(pods) is None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
