"""Input of the plan: one run and the attempts of its stages, as an executor saw them.

Built by the operator from Jobs and Pods, by ``align run`` from its state folder and processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import StageFailure, StageResult
from alignment_api.status import ProgressStatus

__all__ = ["Attempt", "AttemptState", "Leftover", "Observed"]


class AttemptState(StrEnum):
    """Where one attempt stands."""

    PENDING = "Pending"
    """Created, not running: unscheduled, queued, pulling its image."""
    RUNNING = "Running"
    STOPPING = "Stopping"
    """Told to stop and not gone yet."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one stage.

    message: while pending, the scheduler's or the queue's own words.
    result: of a succeeded attempt; None when it could not be read.
    failure: what a failed attempt said of itself; None when it could not (killed, out of memory, never started).
    exit_code: of the process; None when it never ran or is not known.
    disrupted: ended from outside (drain, preemption, machine restart): not the run's fault.
    evicted: why the node removed it for what it did itself; empty: it did not.
    unread: it failed, and its pod was gone before anybody could read how.
    stopping: while active, a pod of it that was told to stop and has not ended; of several the one to go first.
    deleting: somebody deleted it, which tells it to stop; it may have ended well all the same.
    by_hand: it went with ``align run``, which a person stops and starts again: no loop that a pause would slow down.
    """

    stage: StageName
    number: int
    name: str
    state: AttemptState
    message: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    result: StageResult | None = None
    failure: StageFailure | None = None
    exit_code: int | None = None
    disrupted: bool = False
    evicted: str = ""
    unread: bool = False
    stopping: Leftover | None = None
    deleting: bool = False
    by_hand: bool = False

    @property
    def active(self) -> bool:
        """True while it may still do something."""
        return self.state in (AttemptState.PENDING, AttemptState.RUNNING, AttemptState.STOPPING)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A pod that should be gone: its Job was deleted, or it was told to stop.

    until: when it is killed at the latest; None: nobody told it to stop. node: where it runs.
    """

    name: str
    stage: StageName
    until: datetime | None
    node: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything one decision is based on.

    foreign_names: names of children that exist but belong to someone else.
    launch_refusal: why the last try to create a child was refused, in the cluster's words; empty: it was not.
    progress: a fresh reading of the running stage, or None when there is nothing new.
    leftovers: pods of attempts that were deleted; two of one stage would write over each other's checkpoints.
    """

    run: AlignmentRun
    attempts: tuple[Attempt, ...] = ()
    foreign_names: frozenset[str] = frozenset()
    launch_refusal: str = ""
    progress: ProgressStatus | None = None
    leftovers: tuple[Leftover, ...] = ()

    def of(self, stage: StageName) -> tuple[Attempt, ...]:
        """Attempts of a stage, oldest first."""
        return tuple(sorted((a for a in self.attempts if a.stage is stage), key=lambda a: a.number))
