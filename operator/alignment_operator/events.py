"""Kubernetes Events for what changed in a run. Best effort: the conditions are the truth, Events are the news."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from alignment_api.conditions import ConditionType, Reason
from alignment_api.names import API_VERSION, KIND
from alignment_operator.core.actions import Transition
from alignment_operator.errors import ApiError
from alignment_operator.gateway import Gateway
from alignment_operator.records import RunRecord

__all__ = ["Recorder"]

_log = logging.getLogger(__name__)
_QUEUED = 5000
"""More news than that are old news: the oldest are dropped."""
_TRIES = 10
"""Then one piece of news is dropped: a webhook that fails for it alone must not hold up all others."""
_PAUSE_SECONDS = (0.5, 60.0)
"""Between two tries: at first, doubled each time, and at most."""
_PASSING = frozenset(
    {
        Reason.QUEUED,
        Reason.PREPARING,
        Reason.TRAINING,
        Reason.EVALUATING,
        Reason.PUBLISHING,
        Reason.RETRYING,
        Reason.LAUNCH_REFUSED,
        Reason.AWAITING_DECISION,
    }
)
"""Reasons that a step's condition has at the same moment as the summary."""


class Recorder:
    """Queues Events and writes them by and by, so that no reconciliation waits for news.

    gateway: one with a rate limit of its own; identity: this replica's name.
    """

    def __init__(self, gateway: Gateway, *, identity: str, clock: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._identity = identity
        self._clock = clock
        self._queued: deque[dict[str, Any]] = deque(maxlen=_QUEUED)
        self._filled = asyncio.Event()
        self._failures = 0

    def record(self, run: RunRecord, transitions: tuple[Transition, ...]) -> None:
        """One Event per transition that the summary does not tell anyway."""
        for transition in transitions:
            if transition.condition is ConditionType.SUCCEEDED or transition.reason not in _PASSING:
                self._queued.append(self._event(run, transition))
                self._filled.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._filled.wait()
            pause = await self.drain()
            if pause is None:
                self._filled.clear()
            else:
                await asyncio.sleep(pause)

    async def drain(self) -> float | None:
        """Write what is queued. Returns seconds until it is worth going on, or None when nothing is left.

        An Event's name is made from what happened, so that a repetition is refused.
        """
        while self._queued:
            event = self._queued[0]
            try:
                await self._gateway.create_event(event)
            except ApiError as error:
                if error.transient and self._failures < _TRIES:
                    self._failures += 1
                    shortest, longest = _PAUSE_SECONDS
                    pause = min(shortest * 2.0 ** (self._failures - 1), longest)
                    return max(pause, error.retry_after or 0.0)
                if not error.conflict:
                    _log.warning("event %s of %s not written: %s", event["reason"], _subject(event), error)
            self._failures = 0
            if self._queued[0] is event:  # not if it became too old meanwhile
                self._queued.popleft()
        return None

    def _event(self, run: RunRecord, transition: Transition) -> dict[str, Any]:
        now = self._clock().isoformat(timespec="seconds").replace("+00:00", "Z")
        what = f"{run.uid}/{run.version}/{transition.condition}/{transition.reason}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{run.key.name}.{hashlib.sha256(what.encode()).hexdigest()[:16]}",
                "namespace": run.key.namespace,
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": run.key.name,
                "namespace": run.key.namespace,
                "uid": run.uid,
                "resourceVersion": run.version,
            },
            "type": "Warning" if transition.warning else "Normal",
            "reason": str(transition.reason),
            "action": str(transition.condition),
            "message": f"{transition.condition}: {transition.message or transition.reason}"[:1024],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "alignment-operator", "host": self._identity},
            "reportingComponent": "alignment-operator",
            "reportingInstance": self._identity,
        }


def _subject(event: dict[str, Any]) -> str:
    return f"{event['involvedObject']['namespace']}/{event['involvedObject']['name']}"
