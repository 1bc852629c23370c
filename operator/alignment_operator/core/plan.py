"""The state machine of a run: ``plan(observed, now)`` says what the status is and what to do next.

Called by the operator's reconciler and by ``align run`` after every change, and whenever ``requeue_seconds``
have passed. Pure and level-triggered: it looks only at what is there, never at what it did before, so it may
be called at any time, any number of times, after any crash.

    prepare ──► train ──► evaluate ──► gate ──► publish
       each stage: start attempt n ─► pending ─► running ─► ended
                        ▲                                    ├─ done      record the result, next stage
                        │                                    ├─ free      (drained, told to stop) n+1 at once
                        └────────────── pause ◄──────────────┼─ counted   n+1, up to backoffLimit
                                                             └─ final     the run ends

An ended attempt is recorded once: ``retryTime`` in its stage's status marks that it is. One whose node is gone never
ends; it is recorded as ended, and taken away after that.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.names import STAGES, StageName, attempt_name
from alignment_api.stage import ArtifactRef, RunIdentity, StageRequest
from alignment_operator.core.actions import Action, Plan, StartStage, StopStage
from alignment_operator.core.draft import STAGE_CONDITION, Draft
from alignment_operator.core.gate import apply_gate
from alignment_operator.core.leftovers import given_up_message, patience, waiting_message
from alignment_operator.core.observed import Attempt, AttemptState, Observed
from alignment_operator.core.outcome import (
    Outcome,
    OutcomeKind,
    backoff_seconds,
    classify,
    deleted,
    suspended,
)
from alignment_operator.core.results import record_result

__all__ = ["plan"]

_RUNNING = {
    StageName.PREPARE: Reason.PREPARING,
    StageName.TRAIN: Reason.TRAINING,
    StageName.EVALUATE: Reason.EVALUATING,
    StageName.PUBLISH: Reason.PUBLISHING,
}
_CONFLICT_SECONDS = 60.0
_LAUNCH_SECONDS = (15.0, 300.0)
"""Between two tries to create what the cluster refuses: a quarter of the time that it has been tried, within these."""
_SHORT_SECONDS = 60.0
_SHORT_RUNS_AT_ONCE = 3
"""Ends from outside that a stage is spared a pause for; after those, an attempt that ended as soon as it began is followed
by one. The status has only their number, so all of them count, whichever was long.
"""


def plan(observed: Observed, now: datetime) -> Plan:
    """Next status and actions for a run.

    now: timezone-aware; the only clock there is.
    """
    return _Planner(observed, now).plan()


class _Planner:
    """One decision. Holds the draft and collects actions; lives for one call of :func:`plan`."""

    def __init__(self, observed: Observed, now: datetime) -> None:
        self.observed = observed
        self.run = observed.run
        self.now = now
        self.draft = Draft(observed.run, now)
        self.actions: list[Action] = []
        self.absent: list[str] = []
        self.requeue: float | None = None

    def plan(self) -> Plan:
        if self.run.finished:
            self._stop_active(self.observed.attempts)
            return Plan(status=self.run.status, actions=tuple(self.actions))
        for stage in STAGES:
            if self.draft.stage(stage).end_time is not None:
                continue
            if stage is StageName.PUBLISH and not apply_gate(self.run, self.draft):
                break
            if not self._drive(stage):
                break
        return Plan(
            status=self.draft.status(),
            actions=tuple(self.actions),
            transitions=self.draft.transitions(),
            confirm_absent=tuple(self.absent),
            requeue_seconds=self.requeue,
        )

    def _drive(self, stage: StageName) -> bool:
        """Move one unfinished stage on; True when it finished in this very look."""
        attempts = self.observed.of(stage)
        newest = attempts[-1] if attempts else None
        self._stop_active(attempts[:-1])
        status = self.draft.stage(stage)
        if newest is not None and newest.number > status.attempt:
            # A crash between starting it and writing the status: it is ours, by name and owner.
            self.draft.set_stage(stage, attempt=newest.number, job=newest.name, retry_time=None)
            status = self.draft.stage(stage)
        current = newest if newest is not None and newest.number == status.attempt else None
        if status.attempt == 0 or status.retry_time is not None:
            if current is not None and current.active:
                self.actions.append(StopStage(current.name, stage, current.number, abandon=True))
            else:
                self._start_when_due(stage)
            return False
        if current is None:
            return self._vanished(stage)
        if current.active:
            self._active(current)
            return False
        return self._ended(current)

    # -- an attempt that may still do something ---------------------------------------------------------

    def _active(self, attempt: Attempt) -> None:
        stage = attempt.stage
        self._preempted(attempt)
        if self._given_up(attempt):
            return
        if attempt.started is not None and attempt.state is not AttemptState.PENDING:
            first = self.draft.stage(stage).start_time or attempt.started
            self.draft.set_stage(stage, start_time=first, attempt_start_time=attempt.started)
        if self.run.spec.suspend:
            self._stop_active((attempt,))
            self.draft.waiting(
                Reason.SUSPENDED, f"Stopping {attempt.name}; set spec.suspend to false to go on."
            )
            return
        if attempt.state is AttemptState.STOPPING:
            # Keeps Suspended when it was set, so that the attempt's end is known to have been asked for.
            reason = Reason.SUSPENDED if self._was_suspended() else Reason.RETRYING
            self.draft.waiting(reason, f"{attempt.name} is being stopped; a new attempt follows.")
            return
        if attempt.state is AttemptState.PENDING:
            message = attempt.message or _waits(attempt.name)
            self.draft.condition(STAGE_CONDITION[stage], ConditionStatus.UNKNOWN, Reason.QUEUED, message)
            self.draft.waiting(Reason.QUEUED, message)
            return
        left = self.run.spec.active_deadline_seconds - self._seconds_run(attempt)
        if left <= 0:
            self._stop_active((attempt,))
            self._end_stage(stage, Reason.DEADLINE_EXCEEDED, self._deadline_message())
            return
        self.requeue = min(left, self.requeue or left)
        self.draft.condition(
            STAGE_CONDITION[stage], ConditionStatus.UNKNOWN, _RUNNING[stage], f"{attempt.name} is running."
        )
        self.draft.waiting(_RUNNING[stage], f"{attempt.name} is running.")
        if self.observed.progress is not None and self.observed.progress.stage is stage:
            self.draft.set(progress=self.observed.progress)

    def _preempted(self, attempt: Attempt) -> None:
        """Count that the attempt was ended from outside and replaced: the same Job waits, or runs again.

        A drained pod and a Job that its queue preempted go on from their checkpoint under the same attempt.
        """
        status = self.draft.stage(attempt.stage)
        since = status.attempt_start_time
        if since is None or attempt.state is AttemptState.STOPPING:
            return
        waits = attempt.state is AttemptState.PENDING
        if not waits and (attempt.started is None or attempt.started <= since):
            return
        until = self.now if waits or attempt.started is None else attempt.started
        self.draft.set_stage(
            attempt.stage,
            preemptions=status.preemptions + 1,
            attempt_start_time=None,
            running_seconds=round(status.running_seconds + max(0.0, (until - since).total_seconds()), 3),
            exit_reason="Disrupted",
        )
        self.draft.set(progress=None)

    def _given_up(self, attempt: Attempt) -> bool:
        """Whether a pod of the attempt should have ended so long ago that its node must be gone.

        It is recorded now, and taken away in the next look: after a crash between the two the missing Job would count
        as one that somebody deleted.
        """
        pod = attempt.stopping
        left = patience(pod, self.now) if pod is not None else None
        if pod is None or left is None:
            return False
        if left > 0:
            self.requeue = left
            return False
        status = self.draft.stage(attempt.stage)
        since = attempt.started or status.attempt_start_time
        ran = max(0.0, ((pod.until or self.now) - since).total_seconds()) if since is not None else 0.0
        self.draft.set_stage(
            attempt.stage,
            start_time=status.start_time or since,
            attempt_start_time=None,
            running_seconds=round(status.running_seconds + ran, 3),
            preemptions=status.preemptions + 1,
            exit_reason="Disrupted",
            retry_time=self.now,
        )
        self.draft.set(progress=None)
        self._retrying(attempt.stage, given_up_message(attempt.name, pod))
        self.requeue = 0.0
        return True

    def _stop_active(self, attempts: tuple[Attempt, ...]) -> None:
        self.actions.extend(
            StopStage(a.name, a.stage, a.number)
            for a in attempts
            if a.active and a.state is not AttemptState.STOPPING
        )

    # -- an attempt that ended --------------------------------------------------------------------------

    def _ended(self, attempt: Attempt) -> bool:
        self._preempted(attempt)
        outcome = classify(attempt)
        by_hand = attempt.by_hand
        if attempt.deleting and self._suspends() and outcome.kind in (OutcomeKind.COUNTED, OutcomeKind.FREE):
            outcome, by_hand = suspended(attempt.name), True
        ended = attempt.ended or self.now
        started = attempt.started or self.draft.stage(attempt.stage).attempt_start_time
        ran = max(0.0, (ended - started).total_seconds()) if started else 0.0
        status = self.draft.stage(attempt.stage)
        self.draft.set_stage(
            attempt.stage,
            start_time=status.start_time or started,
            attempt_start_time=None,
            running_seconds=round(status.running_seconds + ran, 3),
            exit_reason=outcome.reason[:64],
        )
        self.draft.set(progress=None)
        if outcome.kind is OutcomeKind.DONE:
            assert attempt.result is not None  # noqa: S101  classify: done means there is a result
            return record_result(self.draft, self.run, attempt.result, now=self.now)
        self._record_failure(attempt.stage, outcome, ended, ran=None if by_hand else ran)
        return False

    def _vanished(self, stage: StageName) -> bool:
        """The status speaks of an attempt that is not there (any more)."""
        status = self.draft.stage(stage)
        name = status.job or attempt_name(self.run.metadata.name, stage, status.attempt)
        self.absent.append(name)
        # How long it ran is known up to its last word only: the operator may have been away, and the Job long gone.
        word, ran = self.run.status.progress, 0.0
        if status.attempt_start_time is not None and word is not None and word.stage is stage:
            ran = max(0.0, (word.updated_time - status.attempt_start_time).total_seconds())
        outcome = suspended(name) if self._suspends() else deleted(name)
        self.draft.set_stage(
            stage,
            attempt_start_time=None,
            running_seconds=round(status.running_seconds + ran, 3),
            exit_reason=outcome.reason,
        )
        self.draft.set(progress=None)
        self._record_failure(stage, outcome, self.now)
        return False

    def _suspends(self) -> bool:
        """Whether what was deleted was deleted to suspend the run. The status may not have been written after it."""
        return self.run.spec.suspend or self._was_suspended()

    def _was_suspended(self) -> bool:
        summary = self.run.status.condition(ConditionType.SUCCEEDED)
        return summary is not None and summary.reason is Reason.SUSPENDED

    def _record_failure(
        self, stage: StageName, outcome: Outcome, ended: datetime, *, ran: float | None = None
    ) -> None:
        """Count it and arrange the next attempt. ran: seconds; None where a person ended it: the next need not wait."""
        if outcome.kind is OutcomeKind.FINAL:
            self.draft.fail(stage, outcome, ended)
            self._end_stage(stage, outcome.ends_run, outcome.message)
            return
        status = self.draft.stage(stage)
        if outcome.kind is OutcomeKind.FREE:
            short = status.preemptions + 1 - _SHORT_RUNS_AT_ONCE
            pause = backoff_seconds(short) if short > 0 and ran is not None and ran < _SHORT_SECONDS else 0.0
            self.draft.set_stage(
                stage, preemptions=status.preemptions + 1, retry_time=ended + timedelta(seconds=pause)
            )
        else:
            self.draft.fail(stage, outcome, ended)
            failures = status.failures + 1
            self.draft.set_stage(stage, failures=failures)
            if failures > self.run.spec.backoff_limit:
                self._end_stage(
                    stage,
                    outcome.ends_run,
                    f"Stage {stage} failed {failures} times, the last time: {outcome.message}",
                )
                return
            self.draft.set_stage(stage, retry_time=ended + timedelta(seconds=backoff_seconds(failures)))
        self._start_when_due(stage)

    def _end_stage(self, stage: StageName, reason: Reason, message: str) -> None:
        self.draft.condition(STAGE_CONDITION[stage], ConditionStatus.FALSE, reason, message)
        self.draft.end(reason, message)

    # -- the next attempt -------------------------------------------------------------------------------

    def _start_when_due(self, stage: StageName) -> None:
        status = self.draft.stage(stage)
        if self.run.spec.suspend:
            self.draft.waiting(Reason.SUSPENDED, "spec.suspend is true; set it to false to go on.")
            return
        if self._seconds_run(None) >= self.run.spec.active_deadline_seconds:
            self._end_stage(stage, Reason.DEADLINE_EXCEEDED, self._deadline_message())
            return
        wait = (status.retry_time - self.now).total_seconds() if status.retry_time is not None else 0.0
        if wait > 0:
            self.requeue = wait
            failure = self.draft.get("last_failure")
            counted = failure is not None and failure.stage is stage and failure.reason == status.exit_reason
            why = f"failed; {failure.reason}: {failure.message}" if counted else "was ended from outside."
            # A moment, not a countdown: a message that changes by itself would be written again and again.
            when = f"{status.retry_time:%H:%M:%S} UTC"
            self._retrying(
                stage,
                f"Attempt {status.attempt + 1} of {stage} starts at {when}. Attempt {status.attempt} {why}",
            )
            return
        self._start(stage, status.attempt + 1)

    def _start(self, stage: StageName, number: int) -> None:
        name = attempt_name(self.run.metadata.name, stage, number)
        if name in self.observed.foreign_names:
            self.requeue = _CONFLICT_SECONDS
            self.draft.waiting(
                Reason.NAME_CONFLICT,
                f"{name} exists in namespace {self.run.metadata.namespace} and belongs to something else; delete or rename it.",
            )
            return
        if self._left_over(stage):
            return
        self.actions.append(StartStage(name, self._request(stage, number)))
        if self.observed.launch_refusal:
            self.requeue = min(max(self._seconds_tried() / 4, _LAUNCH_SECONDS[0]), _LAUNCH_SECONDS[1])
            message = f"Creating {name} was refused: {self.observed.launch_refusal}"
            self.draft.condition(
                STAGE_CONDITION[stage], ConditionStatus.UNKNOWN, Reason.LAUNCH_REFUSED, message
            )
            self.draft.waiting(Reason.LAUNCH_REFUSED, message)
            return
        self.draft.set_stage(stage, attempt=number, job=name, retry_time=None)
        message = _waits(name)  # the words of the next look as well: no write that says nothing new
        self.draft.condition(STAGE_CONDITION[stage], ConditionStatus.UNKNOWN, Reason.QUEUED, message)
        self.draft.waiting(Reason.QUEUED, message)

    def _left_over(self, stage: StageName) -> bool:
        """Wait for a pod that a deleted attempt has left behind; True while there is one."""
        for pod in self.observed.leftovers:
            left = patience(pod, self.now)
            if pod.stage is stage and (left is None or left > 0):
                self.requeue = left
                self._retrying(stage, waiting_message(pod))
                return True
        return False

    def _retrying(self, stage: StageName, message: str) -> None:
        self.draft.condition(STAGE_CONDITION[stage], ConditionStatus.UNKNOWN, Reason.RETRYING, message)
        self.draft.waiting(Reason.RETRYING, message)

    def _request(self, stage: StageName, number: int) -> StageRequest:
        inputs = {
            earlier: ArtifactRef(uri=done.artifact_uri, digest=done.artifact_digest)
            for earlier in STAGES[: STAGES.index(stage)]
            if (done := self.draft.stage(earlier)).artifact_uri is not None
            and done.artifact_digest is not None
        }
        publishing = stage is StageName.PUBLISH
        return StageRequest(
            stage=stage,
            run=RunIdentity(
                name=self.run.metadata.name, namespace=self.run.metadata.namespace, uid=self.run.metadata.uid
            ),
            attempt=number,
            spec=self.run.spec,
            pins=self.draft.get("pins"),
            inputs=inputs,
            verdict=self.draft.get("verdict") if publishing else None,
            decision=self.run.spec.gate.decision if publishing else None,
        )

    # -- time -------------------------------------------------------------------------------------------

    def _seconds_run(self, attempt: Attempt | None) -> float:
        total = sum(self.draft.stage(stage).running_seconds for stage in STAGES)
        if attempt is not None and attempt.started is not None:
            total += max(0.0, (self.now - attempt.started).total_seconds())
        return total

    def _seconds_tried(self) -> float:
        """Since the stage could have started: since the one before ended, or the run was made."""
        ends = [end for stage in STAGES if (end := self.draft.stage(stage).end_time) is not None]
        since = max(ends, default=self.run.metadata.creation_timestamp or self.now)
        return max(0.0, (self.now - since).total_seconds())

    def _deadline_message(self) -> str:
        return (
            f"The stages ran longer than activeDeadlineSeconds ({self.run.spec.active_deadline_seconds} s); "
            "raise it in a clone of this run, or make the work smaller."
        )


def _waits(name: str) -> str:
    return f"{name} waits to be scheduled."
