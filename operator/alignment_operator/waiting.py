"""Why a Job waits that has no pod to say so: Kueue's words, or the quota's.

Asked at most once in a while per Job; what was learnt is kept, so that the status does not flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from alignment_operator.errors import ApiError
from alignment_operator.gateway import Gateway
from alignment_operator.records import JobRecord

__all__ = ["WaitingWords"]

_ASK_SECONDS = 10.0
_REMEMBERED = 1000
_FIRST_ASK_SECONDS = 3.0
"""A Job usually has its pod within a second; asking earlier would cost a request per Job for nothing."""


class WaitingWords:
    """Finds out why Jobs wait. kueue: whether Workloads may be read; clock: monotonic seconds."""

    def __init__(self, gateway: Gateway, *, kueue: bool, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._kueue = kueue
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def of(self, job: JobRecord) -> str:
        """The reason in the cluster's own words; empty when there is none to be found."""
        now = self._clock()
        asked, words = self._known.get(job.uid, (now - _ASK_SECONDS + _FIRST_ASK_SECONDS, ""))
        if now - asked < _ASK_SECONDS:
            self._remember(job.uid, asked, words)
            return words
        with suppress(ApiError):  # a comfort, not a decision: the next look asks again
            words = await self._ask(job)
        self._remember(job.uid, now, words)
        return words

    def _remember(self, uid: str, asked: float, words: str) -> None:
        self._known[uid] = (asked, words)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    async def _ask(self, job: JobRecord) -> str:
        if job.suspended:
            if not self._kueue:
                return ""
            return _of_workloads(await self._gateway.workloads_of_job(job.key, job.uid))
        events = await self._gateway.job_refusals(job.key, job.uid)
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
