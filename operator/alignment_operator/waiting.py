"""Why a Job waits that has no pod to say so: Kueue's words, or the quota's.

A comfort that must stay cheap with thousands of waiting Jobs: each is asked about at growing intervals, all of them
together only so often, and what was learnt is kept, so that the status does not flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from alignment_operator.errors import ApiError
from alignment_operator.gateway import Gateway
from alignment_operator.limiter import TokenBucket
from alignment_operator.records import JobRecord, PodRecord

__all__ = ["WaitingWords"]

_FIRST_SECONDS = 3.0
"""A Job usually has its pod within a second; asking earlier would cost a request per Job for nothing."""
_SHORTEST_SECONDS = 10.0
_LONGEST_SECONDS = 120.0
_REMEMBERED = 20_000


@dataclass(slots=True)
class _Known:
    """What is known of a Job. due: when to ask next; interval: how long to wait after that."""

    due: float
    interval: float = _SHORTEST_SECONDS
    words: str = ""


class WaitingWords:
    """Finds out why Jobs wait, or the pod that a node is starting for one. kueue: whether Workloads may be read; bucket: of questions; clock: monotonic seconds."""

    def __init__(
        self, gateway: Gateway, *, kueue: bool, bucket: TokenBucket, clock: Callable[[], float]
    ) -> None:
        self._gateway = gateway
        self._kueue = kueue
        self._bucket = bucket
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def of(self, job: JobRecord, pod: PodRecord | None = None) -> str:
        """The reason in the cluster's own words; empty when there is none to be found."""
        known = self._of(job, pod)
        if self._clock() < known.due:
            return known.words
        if not self._bucket.try_take():
            known.due = self._clock() + _LONGEST_SECONDS  # so many wait that the look itself is to be spared
            return known.words
        before = known.words
        with suppress(ApiError):  # a comfort, not a decision: a later look asks again
            known.words = await self._ask(job, pod)
        longer = min(known.interval * 2, _LONGEST_SECONDS)
        known.interval = longer if known.words == before else _SHORTEST_SECONDS
        known.due = self._clock() + known.interval
        return known.words

    def pause(self, job: JobRecord, pod: PodRecord | None = None) -> float:
        """Seconds until it is worth asking again."""
        known = self._of(job, pod)
        return max(1.0, known.due - self._clock())

    def _of(self, job: JobRecord, pod: PodRecord | None) -> _Known:
        uid = pod.uid if pod is not None else job.uid
        if uid not in self._known:
            self._known[uid] = _Known(self._clock() + _FIRST_SECONDS)
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return self._known[uid]

    async def _ask(self, job: JobRecord, pod: PodRecord | None) -> str:
        if job.suspended:
            if not self._kueue:
                return ""
            return _of_workloads(await self._gateway.workloads_of_job(job.key, job.uid))
        if pod is None:
            return _newest(await self._gateway.job_refusals(job.key, job.uid))
        warning = _newest(await self._gateway.pod_warnings(pod.key, pod.uid))
        return warning or f"{pod.key.name} has a node, which pulls the image and mounts the volumes."


def _newest(events: list[dict[str, Any]]) -> str:
    newest = max(events, key=_moment, default=None)
    return f"{newest.get('reason')}: {newest.get('message')}" if newest else ""


def _moment(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _of_workloads(workloads: list[dict[str, Any]]) -> str:
    """Kueue's reason: an eviction first, then why no quota is reserved, then why it is not admitted."""
    for workload in workloads:
        conditions = {c["type"]: c for c in (workload.get("status") or {}).get("conditions") or ()}
        for kind, status in (("QuotaReserved", "False"), ("Admitted", "False"), ("Evicted", "True")):
            condition = conditions.get(kind)
            if condition and condition.get("status") == status and condition.get("message"):
                evicted = conditions.get("Evicted", {})
                why = f" ({evicted.get('reason')})" if evicted.get("status") == "True" else ""
                return f"Kueue: {condition['message']}{why}"
    return ""
