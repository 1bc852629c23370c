"""Output of the plan: the next status and what to do. Carried out in order, status last.

Doing first and writing last is safe because names are deterministic: a crash in between leaves a child that
the next observation adopts. The other way round would leave a status that speaks of a child that never was.
"""

from __future__ import annotations

from dataclasses import dataclass

from alignment_api.conditions import ConditionType, Reason
from alignment_api.names import StageName
from alignment_api.stage import StageRequest
from alignment_api.status import AlignmentRunStatus

__all__ = ["Action", "Plan", "StartStage", "StopStage", "Transition"]


@dataclass(frozen=True, slots=True)
class StartStage:
    """Start one attempt under this name; if a child of that name exists and is this run's, that is success."""

    name: str
    request: StageRequest

    @property
    def stage(self) -> StageName:
        """Stage to start."""
        return self.request.stage

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""
        return self.request.attempt


@dataclass(frozen=True, slots=True)
class StopStage:
    """Tell one attempt to stop: SIGTERM, time to save a checkpoint, then gone.

    abandon: its node is gone: take it away without waiting for its pods.
    """

    name: str
    stage: StageName
    attempt: int
    abandon: bool = False


Action = StartStage | StopStage


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that changed, worth an Event. warning: the change is a refusal or a failure."""

    condition: ConditionType
    reason: Reason
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    status: to be written if it differs from the run's.
    confirm_absent: names whose absence this plan relies on; look at the live cluster before acting on it.
    requeue_seconds: look again after this long, or None when only a change matters.
    """

    status: AlignmentRunStatus
    actions: tuple[Action, ...] = ()
    transitions: tuple[Transition, ...] = ()
    confirm_absent: tuple[str, ...] = ()
    requeue_seconds: float | None = None
