"""Takes runs from the queue and reconciles them; the one place where a failed reconciliation is counted and repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from alignment_operator.errors import ApiError
from alignment_operator.queue import Appointment, Key, WorkQueue

__all__ = ["ReconcileObserver", "Workers"]

_log = logging.getLogger(__name__)
_DEFECT_SECONDS = 30.0
"""Pause after an error of our own, which repetition seldom mends."""


class ReconcileObserver(Protocol):
    """Who counts reconciliations."""

    def reconciled(self, result: str, seconds: float) -> None:
        """One has ended: done, error or defect."""
        ...


class Workers:
    """So many reconciliations at a time. reconcile: when the next look is, or None; clock: monotonic seconds."""

    def __init__(
        self,
        queue: WorkQueue,
        reconcile: Callable[[Key], Awaitable[Appointment | None]],
        observer: ReconcileObserver,
        *,
        count: int,
        clock: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._observer = observer
        self._count = count
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"worker-{number}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self.one(key)
            except asyncio.CancelledError:
                self._queue.add(key)  # cut short when the lead was lost: whoever leads next starts with it
                raise
            finally:
                self._queue.done(key)

    async def one(self, key: Key) -> None:
        """Reconcile a run once and arrange its next look."""
        began = self._clock()
        result = "done"
        try:
            after = await self._reconcile(key)
        except ApiError as error:
            result = "error"
            pause = self._queue.retry(key, error.retry_after or 0.0)
            _log.warning("run %s: %s; tried again in %.1f s", key, error, pause)
        except Exception:  # noqa: BLE001  a run that trips us must not stop the others
            result = "defect"
            self._queue.retry(key, _DEFECT_SECONDS)
            _log.exception("run %s: a defect of the operator, please report it", key)
        else:
            self._queue.forget(key)
            if after is not None:
                self._queue.add_after(key, after.seconds, news=after.news)
        self._observer.reconciled(result, self._clock() - began)
