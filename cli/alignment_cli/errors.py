"""Errors of the command line: one sentence for a person and an exit code, never a traceback."""

from __future__ import annotations

from alignment_api.exitcodes import AlignExit

__all__ = ["CommandError", "Unreachable"]


class CommandError(Exception):
    """What the person asked for cannot be done; the message says what, where and what to do."""

    def __init__(self, message: str, *, exit_code: AlignExit = AlignExit.REQUEST_INVALID) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Unreachable(CommandError):
    """The cluster does not answer, or not now; the same question may be answered later."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=AlignExit.OTHER)
