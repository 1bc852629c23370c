"""One look at one run: observe, plan, act, write the status. Level-triggered: it never remembers what it did.

Watches nothing, decides nothing (the plan does), and is the one place where errors of the API become behaviour:

    refused (quota, policy, webhook)   told in the status, tried again after a while
    conflict                           look again at what the cluster has now
    no answer, 5xx, 429                raised: the queue tries again, backed off
    a run nobody can read              told in its status, once; nothing else is done

Whatever is about to be created or deleted is preceded by a live reading of the run: a plan made from an old copy
must not act. The status is one PATCH that the server refuses unless the run is still the one that was read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from alignment_api.status import ProgressStatus
from alignment_operator.core.actions import Plan, StartStage, StopStage, Transition
from alignment_operator.core.jobs import PodDefaults, build_job, build_service
from alignment_operator.core.plan import plan
from alignment_operator.core.unreadable import unreadable
from alignment_operator.errors import ApiError, UnreadableRun
from alignment_operator.events import Recorder
from alignment_operator.gateway import Gateway
from alignment_operator.observe import View, observe
from alignment_operator.queue import Appointment, Key
from alignment_operator.records import JobRecord, RunRecord, job_record, pod_record, run_record
from alignment_operator.store import Store
from alignment_operator.waiting import WaitingWords

__all__ = ["Reconciler"]

_log = logging.getLogger(__name__)
_LOOKS = 8
"""Looks in one reconciliation before the key goes back to the queue."""
_LOOK_AGAIN_SECONDS = 1.0


class _Again(Exception):
    """The world is not as the plan thought; look once more."""


class Reconciler:
    """Reconciles runs, one call at a time per key. progress: latest reading by the pod's UID."""

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        *,
        pods: PodDefaults,
        recorder: Recorder,
        waiting: WaitingWords,
        clock: Callable[[], datetime],
        progress: Mapping[str, ProgressStatus],
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._pods = pods
        self._recorder = recorder
        self._waiting = waiting
        self._clock = clock
        self._progress = progress

    async def reconcile(self, key: Key) -> Appointment | None:
        """Bring a run forward. Returns when it should be looked at again, or None. Raises ApiError."""
        for _ in range(_LOOKS):
            stored = self._store.run(key)
            if stored is None or stored.deleting:
                return None  # its children go with it: the garbage collector follows the owner references
            try:
                if stored.finished:
                    await self._tidy(stored)
                    return None
                return await self._look(stored)
            except _Again:
                continue
        return Appointment(_LOOK_AGAIN_SECONDS, news=True)

    async def _look(self, stored: RunRecord) -> Appointment | None:
        try:
            view = await self._observe(stored)
        except UnreadableRun as error:
            await self._tell_unreadable(stored, str(error))
            return None  # a change of the run, or another version of this operator, looks again
        planned = plan(view.observed, self._clock())
        for name in planned.confirm_absent:
            await self._confirm_absent(stored, name)
        if planned.actions:
            # The first Job of a new run harms nobody, however old the view.
            if view.observed.run.status.conditions:
                await self._confirm_unchanged(stored)
            planned = await self._act(stored, planned)
        if planned.status != view.observed.run.status:
            await self._write(stored, planned.status.to_wire(), planned.transitions)
        pauses = [self._waiting.pause(job, pod) for job, pod in view.mute]
        # Of a Job that its queue holds back, or that gets no pod, no watch may bring anything: it is asked about.
        started = {action.name for action in planned.actions if isinstance(action, StartStage)}
        pauses += [
            self._waiting.pause(job)
            for job in self._store.jobs(stored.identity)
            if job.key.name in started and not job.over
        ]
        comfort, due = min(pauses, default=None), planned.requeue_seconds
        if due is not None and (comfort is None or due <= comfort):
            return Appointment(due, news=True)
        # Why a Job waits is a comfort: asking must not delay the runs that move.
        return None if comfort is None else Appointment(comfort, news=False)

    async def _tidy(self, stored: RunRecord) -> None:
        """A finished run needs no process any more; one that still goes on is stopped."""
        active = [job for job in self._store.jobs(stored.identity) if not job.over and not job.deleting]
        if active:
            await self._confirm_unchanged(stored)
        for job in active:
            await self._delete(job)

    # -- observing ----------------------------------------------------------------------------------

    async def _observe(self, stored: RunRecord) -> View:
        """What there is of a run. While we ask, a Job may end whose pods the watch has not brought yet: look once more."""
        words: dict[str, str] = {}
        read: set[str] = set()
        while True:
            view = self._view(stored, words=words)
            unread = [job for job in view.unsettled if job.uid not in read]
            unasked = [(job, pod) for job, pod in view.mute if job.uid not in words]
            if not unread and not unasked:
                return view
            for job in unread:
                read.add(job.uid)
                for raw in await self._gateway.pods_of_job(job.key):
                    self._store.put_pod(pod_record(raw))
            for waiting, pod in unasked:
                words[waiting.uid] = await self._waiting.of(waiting, pod)

    def _view(
        self,
        stored: RunRecord,
        *,
        words: Mapping[str, str] | None = None,
        foreign: frozenset[str] = frozenset(),
        refusal: str = "",
    ) -> View:
        pods = self._store.pods(stored.identity)
        readings = (self._progress.get(pod.uid) for pod in pods if pod.ended is None)
        return observe(
            stored.parse(),
            self._store.jobs(stored.identity),
            pods,
            words=words,
            foreign=foreign,
            refusal=refusal,
            progress=next((reading for reading in readings if reading is not None), None),
        )

    async def _confirm_absent(self, stored: RunRecord, name: str) -> None:
        raw = await self._gateway.get_job(Key(stored.key.namespace, name))
        if raw is not None and job_record(raw).owner == stored.identity:
            self._store.found_job(job_record(raw))
            raise _Again

    async def _confirm_unchanged(self, stored: RunRecord) -> None:
        await self._refresh(stored)
        known = self._store.run(stored.key)
        if known is None or known.uid != stored.uid or known.version != stored.version:
            raise _Again

    async def _refresh(self, stored: RunRecord) -> None:
        raw = await self._gateway.get_run(stored.key)
        if raw is None:
            self._store.drop_run(stored.key)
        else:
            self._store.put_run(run_record(raw))

    # -- acting -------------------------------------------------------------------------------------

    async def _act(self, stored: RunRecord, planned: Plan) -> Plan:
        """Carry out the actions; where one was refused, the plan that knows of it."""
        foreign: set[str] = set()
        refusal = ""
        for action in planned.actions:
            if isinstance(action, StopStage):
                await self._stop(stored, action)
                continue
            try:
                if not await self._start(stored, action):
                    foreign.add(action.name)
            except ApiError as error:
                if not error.refusal:
                    raise
                refusal = error.message
        if not foreign and not refusal:
            return planned
        again = self._view(stored, foreign=frozenset(foreign), refusal=refusal)
        return plan(again.observed, self._clock())

    async def _stop(self, stored: RunRecord, action: StopStage) -> None:
        """Stop an attempt, unless it turns out to have ended meanwhile: then its result counts."""
        job = next((j for j in self._store.jobs(stored.identity) if j.key.name == action.name), None)
        if job is None or (job.deleting and not action.abandon):
            return
        if not await self._delete(job, abandon=action.abandon):
            raise _Again

    async def _delete(self, job: JobRecord, *, abandon: bool = False) -> bool:
        """Delete a Job; False when a live reading finds it ended or gone, or (unless it is abandoned) on its way."""
        raw = await self._gateway.get_job(job.key)
        live = job_record(raw) if raw is not None else None
        if live is None:
            self._store.drop_job(job.key)
            return False
        if live.uid != job.uid or live.over or (live.deleting and not abandon):
            self._store.found_job(live)
            return False
        await self._gateway.delete_job(job.key, job.uid, wait=not abandon)
        return True

    async def _start(self, stored: RunRecord, action: StartStage) -> bool:
        """Create the attempt's Job, or adopt the one that is there; False when the name belongs to someone else."""
        service = build_service(action)
        if service is not None:
            await self._create_service(service)
        try:
            raw = await self._gateway.create_job(build_job(action, self._pods))
        except ApiError as error:
            if not error.exists:
                raise
            found = await self._gateway.get_job(Key(stored.key.namespace, action.name))
            if found is None:
                raise _Again from error
            raw = found
        record = job_record(raw)
        if record.owner != stored.identity:
            return False
        self._store.found_job(record)
        return True

    async def _create_service(self, manifest: dict[str, Any]) -> None:
        try:
            await self._gateway.create_service(manifest)
        except ApiError as error:
            if not error.exists:
                raise

    # -- writing ------------------------------------------------------------------------------------

    async def _tell_unreadable(self, stored: RunRecord, problem: str) -> None:
        told = unreadable(stored.wire(), problem, self._clock())
        if told is not None:
            _log.warning("run %s cannot be read: %s", stored.key, problem)
            await self._write(stored, *told)

    async def _write(
        self, stored: RunRecord, status: dict[str, Any], transitions: tuple[Transition, ...]
    ) -> None:
        try:
            raw = await self._gateway.write_status(stored.key, stored.version, status)
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise
            await self._refresh(stored)
            raise _Again from error
        self._store.put_run(run_record(raw))
        self._recorder.record(stored, transitions)
