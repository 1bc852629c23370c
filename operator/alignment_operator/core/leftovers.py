"""Pods that should be gone: how long the next attempt waits for them, and what is said meanwhile. Pure.

A pod whose node is gone (no power, cut off) stays in the API as it was: nobody says that it has ended, and its Job makes
no other before that. Past its grace it is given up, so a node that is only cut off may still run it beside its
successor. What is read is safe from it: every folder is read by the digest in the result that was recorded, and one with
another content is refused; an alias moves by a conditional write, from what prepare pinned. At worst it costs attempts.
"""

from __future__ import annotations

from datetime import datetime

from alignment_operator.core.observed import Leftover

__all__ = ["given_up_message", "patience", "waiting_message"]

_LATE_SECONDS = 60.0
"""Clocks differ, and the last word of a node takes its time."""


def patience(pod: Leftover, now: datetime) -> float | None:
    """Seconds for which the pod is still waited for; 0 and less: it is given up; None: nobody told it to stop."""
    return _LATE_SECONDS - (now - pod.until).total_seconds() if pod.until is not None else None


def waiting_message(pod: Leftover) -> str:
    """Why the next attempt does not start yet."""
    what = "is being stopped" if pod.until is not None else "still runs; delete it, or let it end"
    return f"Pod {pod.name} of a deleted attempt {what}; the next attempt starts when it is gone."


def given_up_message(attempt: str, pod: Leftover) -> str:
    """Why an attempt is not waited for any longer, and what a person should do about its node."""
    return (
        f"{attempt} is given up: its pod {pod.name} should have ended by {pod.until:%H:%M:%S} UTC, and node {pod.node} has "
        f"not said so; it is most likely gone. A new attempt goes on from the last checkpoint, free of charge. Should "
        f"the node not come back: kubectl delete node {pod.node}."
    )
