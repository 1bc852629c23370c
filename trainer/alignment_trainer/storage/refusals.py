"""Sentences that every store says alike."""

from __future__ import annotations

from alignment_trainer.errors import RequestError, TemporaryError

__all__ = ["checksum_differs", "missing", "too_large"]


def missing(uri: str) -> RequestError:
    """An object that must be there is not."""
    return RequestError(f"{uri} does not exist; check the URI.", reason="ObjectMissing")


def too_large(uri: str, size: int, maximum_bytes: int) -> RequestError:
    """An object that should be a small one is not."""
    return RequestError(
        f"{uri} has {size} bytes, at most {maximum_bytes} are expected here; is it the right object?",
        reason="ObjectTooLarge",
    )


def checksum_differs(uri: str, *, found: str, expected: str) -> TemporaryError:
    """What arrived is not what was pinned."""
    return TemporaryError(
        f"{uri} has sha256 {found}, expected {expected}: it was damaged on the way or replaced. "
        "Restore the object, or start a new run that pins what is there now.",
        reason="ChecksumDiffers",
    )
