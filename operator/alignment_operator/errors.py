"""Errors of the operator.

    OperatorError
    ├── SettingsError     the installation is wrong: say which variable, stop at start
    ├── UnreadableRun     a stored run does not fit this version's contract: say so in its status, leave it alone
    └── ApiError          the API server answered with an error
        └── Unreachable   it did not answer, or not in time: nobody knows whether the call took effect

One place maps them to behaviour: :mod:`alignment_operator.reconcile`.
"""

from __future__ import annotations

__all__ = ["ApiError", "OperatorError", "SettingsError", "Unreachable", "UnreadableRun"]


class OperatorError(Exception):
    """Base of all errors of the operator."""


class SettingsError(OperatorError):
    """A setting is missing or wrong; the message names the variable and what it takes."""


class UnreadableRun(OperatorError):
    """A run that the API server has does not fit the contract; the message names the fields, never their values."""


class ApiError(OperatorError):
    """An answer of the API server with status 400 or above.

    status: HTTP status; reason: Kubernetes' CamelCase word, e.g. AlreadyExists; message: the server's own words;
    retry_after: seconds the server asked to wait, if it did.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def not_found(self) -> bool:
        """The object is not there."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """The object was changed since it was read, or exists already, or a quota was being counted."""
        return self.status == 409

    @property
    def exists(self) -> bool:
        """The object exists already."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def transient(self) -> bool:
        """It may pass by itself: no answer, too many requests, a server in trouble."""
        return self.status in (0, 429) or self.status >= 500

    @property
    def refusal(self) -> bool:
        """The cluster said no to this very object and a person should read why: quota, policy, webhook, schema.

        A webhook that is down answers 500 with its name; that too is for a person to read.
        """
        if self.status in (400, 403, 422):
            return True
        return self.status >= 500 and "webhook" in self.message


class Unreachable(ApiError):
    """No answer. The call may or may not have taken effect."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)
