"""What an ended attempt means for its stage: done, final failure, counted failure, or free of charge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from alignment_api.conditions import Reason
from alignment_api.exitcodes import ExitFamily, StageExit, family
from alignment_operator.core.observed import Attempt, AttemptState

__all__ = [
    "MAXIMUM_BACKOFF_SECONDS",
    "Outcome",
    "OutcomeKind",
    "backoff_seconds",
    "classify",
    "deleted",
    "suspended",
]

FIRST_BACKOFF_SECONDS = 10.0
"""Pause after the first counted failure, as Kubernetes' own Job controller has it; doubled each time."""
MAXIMUM_BACKOFF_SECONDS = 360.0

_KILLED = 137


class OutcomeKind(StrEnum):
    """The four ways in which an attempt can have ended."""

    DONE = "Done"
    FINAL = "Final"
    COUNTED = "Counted"
    FREE = "Free"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. reason: CamelCase case; ends_run: the run's reason if it ends the run."""

    kind: OutcomeKind
    reason: str
    message: str
    ends_run: Reason = Reason.STAGE_FAILED
    exit_code: int | None = None


def classify(attempt: Attempt) -> Outcome:
    """Meaning of an ended attempt.

    Order matters: a result that fits beats everything (a pod may be deleted after it finished), a disruption beats the
    exit code (a drained pod often exits 137).
    """
    if attempt.state is AttemptState.SUCCEEDED:
        if attempt.result is not None and attempt.result.answers(attempt.stage):
            return Outcome(OutcomeKind.DONE, "Done", "")
        if attempt.result is not None:
            return Outcome(
                OutcomeKind.COUNTED,
                "VersionsDiffer",
                f"{attempt.name} ended well with a result that is none of stage {attempt.stage} as this operator knows it: "
                "operator and trainer image are of different versions. Bring both to one version.",
                exit_code=0,
            )
        return Outcome(
            OutcomeKind.COUNTED,
            Reason.RESULT_LOST,
            f"{attempt.name} ended well but its result could not be read; a new attempt reads it from the artifacts.",
            ends_run=Reason.RESULT_LOST,
            exit_code=0,
        )
    code = attempt.exit_code
    if attempt.disrupted:
        return Outcome(
            OutcomeKind.FREE, "Disrupted", f"{attempt.name} was ended from outside.", exit_code=code
        )
    kind = family(code) if code is not None else ExitFamily.COUNTED
    reason, message = _words(attempt)
    if kind is ExitFamily.FINAL:
        return Outcome(OutcomeKind.FINAL, reason, message, ends_run=_run_reason(code, reason), exit_code=code)
    # What a pod was evicted for by its own doing would come again: free of charge, it would come for ever.
    if attempt.evicted:
        reason, message = "Evicted", f"{attempt.name} was evicted: {attempt.evicted}"
    free = kind is ExitFamily.UNCOUNTED and not attempt.evicted
    return Outcome(OutcomeKind.FREE if free else OutcomeKind.COUNTED, reason, message, exit_code=code)


def deleted(name: str) -> Outcome:
    """An attempt that vanished: somebody deleted it. Counted, so that deleting cannot loop for ever."""
    return Outcome(OutcomeKind.COUNTED, "Deleted", f"{name} was deleted while it was needed.")


def suspended(name: str) -> Outcome:
    """An attempt that was stopped because its run is suspended. Free, however it took that."""
    return Outcome(OutcomeKind.FREE, "Suspended", f"{name} was stopped.")


def backoff_seconds(failures: int) -> float:
    """Pause before the next attempt after ``failures`` counted failures (>= 1)."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** (failures - 1), MAXIMUM_BACKOFF_SECONDS)


def _run_reason(code: int | None, reason: str) -> Reason:
    if code == StageExit.REQUEST_INVALID:
        return Reason.REQUEST_INVALID
    return Reason.TOO_FEW_PAIRS if reason == Reason.TOO_FEW_PAIRS else Reason.DATA_INVALID


def _words(attempt: Attempt) -> tuple[str, str]:
    if attempt.failure is not None:
        return attempt.failure.reason, attempt.failure.message
    if attempt.unread:
        return "Deleted", f"{attempt.name} failed, and its pod was deleted before anybody could read why."
    if attempt.exit_code == _KILLED:
        return (
            "Killed",
            f"{attempt.name} was killed (exit 137), most often for using more memory than its limit. {attempt.message}".rstrip(),
        )
    if attempt.exit_code is None:
        return "NeverRan", attempt.message or f"{attempt.name} ended without running."
    return (
        "Crashed",
        f"{attempt.name} exited {attempt.exit_code} without a reason that can be read; its log has the cause. {attempt.message}".rstrip(),
    )
