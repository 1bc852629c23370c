"""Exit codes of stage processes and of ``align run``, and what each one means for the run."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

__all__ = ["ALIGN_SENTENCES", "STAGE_SENTENCES", "AlignExit", "ExitFamily", "StageExit", "family"]


class StageExit(IntEnum):
    """Exit codes of ``alignment-trainer``."""

    DONE = 0
    REQUEST_INVALID = 64
    DATA_INVALID = 65
    TEMPORARY = 75
    STOPPED = 143


STAGE_SENTENCES: Final[dict[StageExit, str]] = {
    StageExit.DONE: "Done; the result is written.",
    StageExit.REQUEST_INVALID: "The request is wrong: a field, a URI, a right. The message names it and the remedy.",
    StageExit.DATA_INVALID: "The data is wrong: the message names the most frequent faults with places.",
    StageExit.TEMPORARY: "Something outside failed for now (storage, hub, judge, disk).",
    StageExit.STOPPED: "Told to stop (SIGTERM): the checkpoint is saved.",
}
"""What each exit code of a stage says, for the documentation."""


class AlignExit(IntEnum):
    """Exit codes of ``align``, for scripts."""

    PUBLISHED = 0
    OTHER = 1
    GATE_FAILED = 3
    UNDECIDED = 4
    REQUEST_INVALID = 64
    DATA_INVALID = 65
    INTERRUPTED = 130


ALIGN_SENTENCES: Final[dict[AlignExit, str]] = {
    AlignExit.PUBLISHED: "The run published a model; of other verbs: done.",
    AlignExit.OTHER: "Anything without a code of its own: a stage failed, a deadline passed, the cluster refused.",
    AlignExit.GATE_FAILED: "The gate failed, or a person rejected the release. Nothing was published.",
    AlignExit.UNDECIDED: "The verdict is Inconclusive, or the run waits for a person, or it is suspended.",
    AlignExit.REQUEST_INVALID: "What was asked for cannot be done as written; the message says what to change.",
    AlignExit.DATA_INVALID: "The data cannot be used, or there is too little of it.",
    AlignExit.INTERRUPTED: "Interrupted (Ctrl-C); the same command goes on where it stopped.",
}
"""What each exit code of ``align`` says, for the documentation."""


class ExitFamily(StrEnum):
    """What follows from an exit code."""

    DONE = "Done"
    FINAL = "Final"
    """A person must change the request or the data: the run ends."""
    COUNTED = "Counted"
    """A new attempt, backed off, up to ``backoffLimit``."""
    UNCOUNTED = "Uncounted"
    """Told to stop: a new attempt that costs nothing."""


def family(exit_code: int) -> ExitFamily:
    """What follows from a stage's exit code. Out-of-memory kills (137) and defects are counted."""
    if exit_code == StageExit.DONE:
        return ExitFamily.DONE
    if exit_code in (StageExit.REQUEST_INVALID, StageExit.DATA_INVALID):
        return ExitFamily.FINAL
    if exit_code == StageExit.STOPPED:
        return ExitFamily.UNCOUNTED
    return ExitFamily.COUNTED
