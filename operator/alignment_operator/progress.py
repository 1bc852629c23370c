"""Reads how far running stages are, from ``/progress`` of their pods. A comfort: whatever fails here is tried later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp

from alignment_api.status import ProgressStatus
from alignment_operator.core.jobs import PROGRESS_PORT
from alignment_operator.queue import WorkQueue
from alignment_operator.records import PodRecord
from alignment_operator.store import Store

__all__ = ["ProgressReader"]

_log = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)
_AT_ONCE = 16
_MAXIMUM_BYTES = 65_536


class ProgressReader:
    """Keeps the latest reading of every running pod that speaks for its attempt.

    seconds: time between two readings; address: base URL of a pod's server.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        *,
        seconds: float,
        address: Callable[[PodRecord], str] | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._seconds = seconds
        self._address = address or _pod_address
        self._readings: dict[str, ProgressStatus] = {}

    @property
    def readings(self) -> Mapping[str, ProgressStatus]:
        """Latest reading by the pod's UID."""
        return self._readings

    async def run(self) -> None:
        """Read until cancelled."""
        limit = asyncio.Semaphore(_AT_ONCE)
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
            while True:
                await asyncio.sleep(self._seconds)
                pods = [pod for pod in self._store.running_pods() if pod.index == 0]
                await asyncio.gather(*(self._read(session, limit, pod) for pod in pods))
                running = {pod.uid for pod in pods}
                for uid in [uid for uid in self._readings if uid not in running]:
                    del self._readings[uid]

    async def _read(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, pod: PodRecord) -> None:
        async with limit:
            try:
                async with session.get(f"{self._address(pod)}/progress", allow_redirects=False) as answer:
                    body = await answer.content.read(_MAXIMUM_BYTES)
                reading = ProgressStatus.model_validate_json(body)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                _log.debug("progress of %s not read: %s", pod.key, error)
                return
        known = self._readings.get(pod.uid)
        if known is not None and _same_place(known, reading):
            return  # nothing moved: no write that only says when it was looked at
        self._readings[pod.uid] = reading
        self._queue.add(pod.run)


def _same_place(before: ProgressStatus, after: ProgressStatus) -> bool:
    return (before.step, before.steps, before.activity) == (after.step, after.steps, after.activity)


def _pod_address(pod: PodRecord) -> str:
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    return f"http://{host}:{PROGRESS_PORT}"
