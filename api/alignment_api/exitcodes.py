"""Exit codes of stage processes and of ``align run``, and what each one means for the run."""

from __future__ import annotations

from enum import IntEnum, StrEnum

__all__ = ["AlignExit", "ExitFamily", "StageExit", "family"]


class StageExit(IntEnum):
    """Exit codes of ``alignment-trainer``."""

    DONE = 0
    REQUEST_INVALID = 64
    DATA_INVALID = 65
    TEMPORARY = 75
    STOPPED = 143


class AlignExit(IntEnum):
    """Exit codes of ``align run`` and ``align demo``, for scripts."""

    PUBLISHED = 0
    OTHER = 1
    GATE_FAILED = 3
    UNDECIDED = 4
    REQUEST_INVALID = 64
    DATA_INVALID = 65


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
