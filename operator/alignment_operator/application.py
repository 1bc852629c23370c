"""Puts the parts together and runs them: list, watch, work, read progress, list again, until told to stop.

watches (kopf) ─┐
listings ───────┼─► Intake ─► Store ─► WorkQueue ─► Workers ─► Reconciler ─► Gateway ─► API server
answers ────────┘                                     only on the leader, only after the first listing
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from alignment_operator.core.jobs import PodDefaults
from alignment_operator.errors import ApiError
from alignment_operator.events import Recorder
from alignment_operator.freshness import Freshness
from alignment_operator.gateway import JOBS, PODS, RUNS, Gateway, Transport
from alignment_operator.intake import Intake
from alignment_operator.leader import Elector
from alignment_operator.limiter import TokenBucket
from alignment_operator.metrics import Metrics, OperatorState
from alignment_operator.progress import ProgressReader
from alignment_operator.queue import Key, WorkQueue
from alignment_operator.reconcile import Reconciler
from alignment_operator.server import serving
from alignment_operator.settings import Settings
from alignment_operator.store import Store
from alignment_operator.waiting import WaitingWords
from alignment_operator.watches import watch
from alignment_operator.workers import Workers

__all__ = ["Application"]

_log = logging.getLogger(__name__)
_FIRST_RESYNC_SECONDS = 20.0
"""The first listing precedes the watches; what is deleted between the two is found by the next one."""
_LIST_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
_EVENT_RATE = (50.0, 100)
"""Events per second and at once, apart from the requests that bring runs forward."""
_QUESTION_RATE = (20.0, 40)
"""Questions per second and at once why Jobs wait: thousands that queue must not keep others from starting."""
_LAG_LIMIT_SECONDS = 180.0
"""A watch that owes us a change for so long is dead."""


class Application:
    """One operator process over one connection."""

    def __init__(self, settings: Settings, transport: Transport) -> None:
        clock = time.monotonic
        self._settings = settings
        self._store = Store()
        self._queue = WorkQueue(clock)
        self._freshness = Freshness(clock)
        self._metrics = Metrics(per_run=settings.per_run_metrics, wrote=self._wrote)
        bucket = TokenBucket(settings.queries_per_second, settings.burst, clock)
        self._gateway = Gateway(transport, bucket, self._metrics, clock)
        self._intake = Intake(
            self._store, self._queue, self._gateway, self._freshness, namespaces=settings.namespaces
        )
        self._progress = ProgressReader(self._store, self._queue, seconds=settings.progress_seconds)
        self._elector: Elector | None = None
        if settings.leader_election:
            own = Gateway(transport, TokenBucket(10.0, 20, clock), self._metrics, clock)
            lease = Key(settings.lease_namespace, settings.lease_name)
            self._elector = Elector(
                own, lease, identity=settings.identity, seconds=settings.lease_seconds, clock=clock
            )
        news = Gateway(transport, TokenBucket(*_EVENT_RATE, clock), self._metrics, clock)
        self._recorder = Recorder(news, identity=settings.identity, clock=_now)
        self._workers = Workers(
            self._queue, self._reconciler().reconcile, self._metrics, count=settings.workers, clock=clock
        )
        self._listed_time = 0.0
        self._ready = False

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises what made it impossible to go on: the process should start anew."""
        stop = asyncio.Event()
        with _stopping(stop):
            served = serving(
                self._settings.listen, ailing=self._ailing, ready=lambda: self._ready, scrape=self._scrape
            )
            async with served as port:
                _log.info("serving on port %d", port)
                await _until(stop, self._operate(stop))

    # -- parts --------------------------------------------------------------------------------------

    async def _operate(self, stop: asyncio.Event) -> None:
        for pause in itertools.chain(_LIST_RETRY_SECONDS, itertools.repeat(_LIST_RETRY_SECONDS[-1])):
            if await self._list():
                break
            await asyncio.sleep(pause)  # also waits for the CRD to be there, which kopf would not
        begun = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lead(), name="lead")
            group.create_task(self._resync(), name="resync")
            group.create_task(self._watch(begun, stop), name="watch")
            await begun.wait()
            _handle_signals(stop)  # kopf has put its own in place

    async def _watch(self, begun: asyncio.Event, stop: asyncio.Event) -> None:
        await watch(self._intake.watched, namespaces=self._settings.namespaces, begun=begun)
        stop.set()

    async def _lead(self) -> None:
        if self._elector is None:
            await self._work()
        else:
            await self._elector.run(self._work)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._workers.run(), name="workers")
            group.create_task(self._recorder.run(), name="events")
            if self._settings.progress_seconds > 0:
                group.create_task(self._progress.run(), name="progress")

    async def _resync(self) -> None:
        """List everything now and then, and what could not be listed by itself meanwhile."""
        due = min(_FIRST_RESYNC_SECONDS, self._settings.resync_seconds)
        while True:
            pause = min(due, _LIST_RETRY_SECONDS[-1]) if self._intake.failing else due
            await asyncio.sleep(pause)
            due -= pause
            if due > 0:
                await self._intake.list_failing()
            else:
                await self._list()
                due = self._settings.resync_seconds

    async def _list(self) -> bool:
        """List everything; False when nothing could be listed."""
        try:
            await self._intake.list_all()
        except ApiError as error:
            _log.warning("listing failed, it is tried again: %s", error)
            return False
        if not self._intake.failing:
            self._listed_time = time.time()
        self._ready = True
        return True

    def _reconciler(self) -> Reconciler:
        settings, gateway = self._settings, self._gateway
        pods = PodDefaults(
            image=settings.trainer_image,
            pull_policy=settings.image_pull_policy,
            env=settings.pod_env,
            user=settings.pod_user,
            fs_group=settings.pod_fs_group,
        )
        return Reconciler(
            self._store,
            gateway,
            pods=pods,
            recorder=self._recorder,
            waiting=WaitingWords(
                gateway,
                kueue=settings.kueue,
                bucket=TokenBucket(*_QUESTION_RATE, time.monotonic),
                clock=time.monotonic,
            ),
            clock=_now,
            progress=self._progress.readings,
        )

    # -- state --------------------------------------------------------------------------------------

    def _values(self) -> dict[str, float | dict[str, float]]:
        lag: dict[str, float] = {r.plural: self._freshness.lag(r.plural) for r in (RUNS, JOBS, PODS)}
        leading = self._leading()
        return {
            "alignment_operator_leader": float(leading),
            # A standby's queue fills up, and nobody waits for it.
            "alignment_operator_workqueue_depth": float(self._queue.depth) if leading else 0.0,
            "alignment_operator_workqueue_oldest_seconds": self._queue.oldest_seconds if leading else 0.0,
            "alignment_operator_watch_lag_seconds": lag,
            "alignment_operator_last_resync_timestamp_seconds": self._listed_time,
            "alignment_operator_unlisted_namespaces": float(self._intake.failing),
        }

    def _leading(self) -> bool:
        return self._elector.leading if self._elector is not None else self._ready

    def _ailing(self) -> str:
        silent = [r.plural for r in (RUNS, JOBS, PODS) if self._freshness.lag(r.plural) > _LAG_LIMIT_SECONDS]
        return f"the watch of {', '.join(silent)} is silent while changes happen" if silent else ""

    def _scrape(self) -> Callable[[], bytes]:
        runs = tuple(self._store.runs()) if self._leading() else ()
        return partial(self._metrics.render, OperatorState(runs, self._values()))

    def _wrote(self, resource: str, namespace: str, version: str) -> None:
        self._freshness.expect((resource, namespace if self._settings.namespaces else ""), version)


async def _until(stop: asyncio.Event, operate: Coroutine[Any, Any, None]) -> None:
    """Run ``operate`` until ``stop`` is set."""
    work = asyncio.ensure_future(operate)
    told = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (work, told):
            task.cancel()
        await asyncio.wait((work, told))
    if not work.cancelled():
        work.result()


@contextmanager
def _stopping(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    _handle_signals(stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _handle_signals(stop: asyncio.Event) -> None:
    handler: Callable[[], None] = stop.set
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, handler)


def _now() -> datetime:
    return datetime.now(UTC)
