"""Errors of the stages, and the exit code and reason that each becomes.

Tree::

    StageError
    ├── RequestError     64  the request is wrong; the person changes the run
    ├── DataError        65  the data is wrong; the person changes the data
    ├── TemporaryError   75  something outside failed for now; a new attempt may succeed
    └── Stopped         143  told to stop (SIGTERM); a checkpoint was saved

Everything else that escapes a stage is a defect of ours and ends with exit code 1.
Raised anywhere in this package, caught in one place: :mod:`alignment_trainer.main`.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["DataError", "RequestError", "StageError", "Stopped", "TemporaryError"]


class StageError(Exception):
    """A failure that a person can act on.

    message: what is wrong with the value seen, where it is (object, file:line, field), what to do.
        Never contains text of prompts or responses.
    reason: CamelCase, stable; tests and the status compare it, never the message.
    """

    exit_code: ClassVar[int] = 1
    default_reason: ClassVar[str] = "StageFailed"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason


class RequestError(StageError):
    """The request cannot be carried out as written: spec field, URI, credentials, model folder."""

    exit_code = 64
    default_reason = "RequestInvalid"


class DataError(StageError):
    """The data cannot be used: too few pairs, too many invalid rows, a leak across the split."""

    exit_code = 65
    default_reason = "DataInvalid"


class TemporaryError(StageError):
    """Something outside failed for now: storage, judge, a full disk that may be freed."""

    exit_code = 75
    default_reason = "TemporarilyUnavailable"


class Stopped(StageError):
    """The stage was told to stop and has saved what it needs to go on."""

    exit_code = 143
    default_reason = "Stopped"
