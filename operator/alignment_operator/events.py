"""Kubernetes Events for what changed in a run. Best effort: the conditions are the truth, Events are the news."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from alignment_api.names import API_VERSION, KIND
from alignment_operator.core.actions import Transition
from alignment_operator.errors import ApiError
from alignment_operator.gateway import Gateway
from alignment_operator.records import RunRecord

__all__ = ["Recorder"]

_log = logging.getLogger(__name__)


class Recorder:
    """Writes Events. identity: this replica's name."""

    def __init__(self, gateway: Gateway, *, identity: str, clock: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._identity = identity
        self._clock = clock

    async def record(self, run: RunRecord, transitions: tuple[Transition, ...]) -> None:
        """One Event per transition. Its name is made from what happened, so that a repetition is refused."""
        for transition in transitions:
            try:
                await self._gateway.create_event(self._event(run, transition))
            except ApiError as error:
                if not error.conflict:
                    _log.warning("event %s of run %s not written: %s", transition.reason, run.key, error)

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
