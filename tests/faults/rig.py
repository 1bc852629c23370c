"""An operator, a cluster and a clock in one thread: every step is the test's, every call can be made to fail.

The operator's own parts are used as they are: store, queue, intake, reconciler, gateway. Only the transport (calls
into the in-memory API server), the watches (its history) and the clock are the rig's.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from alignment_api.names import LABEL_RUN_UID, LABEL_STAGE, StageName
from alignment_operator.core.jobs import PodDefaults
from alignment_operator.errors import ApiError, Unreachable
from alignment_operator.events import Recorder
from alignment_operator.freshness import Freshness
from alignment_operator.gateway import CHILDREN_SELECTOR, JOBS, PODS, RUNS, Gateway
from alignment_operator.intake import Intake
from alignment_operator.limiter import TokenBucket
from alignment_operator.queue import WorkQueue
from alignment_operator.reconcile import Reconciler
from alignment_operator.store import Store
from alignment_operator.waiting import WaitingWords
from alignment_operator.workers import Workers
from support.apiserver import ApiServer, Json, copied
from support.kubelet import Kubelet, Script
from support.runs import at, manifest

__all__ = ["CALL_FAULTS", "EVENT_FAULTS", "Fault", "FaultKind", "Rig", "Scenario", "Step"]

_RESYNC_SECONDS = 600.0
_STALE_CHANGES = 3
_MOVES = 3000
NAMESPACE = "team"
RUN = ("alignmentruns", NAMESPACE, "notes")


class FaultKind(StrEnum):
    """What can happen to one call, or to one event of a watch."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    CONFLICT = "409"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    THROTTLED = "429"
    TIMEOUT = "timeout after commit"
    STALE = "stale read"
    DROPPED = "dropped event"
    DUPLICATED = "duplicated event"


EVENT_FAULTS = (FaultKind.DROPPED, FaultKind.DUPLICATED)
CALL_FAULTS = tuple(kind for kind in FaultKind if kind not in EVENT_FAULTS)


@dataclass(frozen=True)
class Fault:
    """One fault at the call or event of this number, from 1."""

    kind: FaultKind
    number: int


@dataclass(frozen=True)
class Step:
    """What a person or the world does as soon as ``when`` holds."""

    when: Callable[[Rig], bool]
    do: Callable[[Rig], object]


@dataclass(frozen=True, eq=False)
class Scenario:
    """A story. script: ends of pods by stage; steps: what else happens, in this order.

    swift: the rest of the cluster does all that it can between any two calls of the operator.
    forgets: ended pods are removed before their Job ends; how they ended is known only to an operator that was there.
    """

    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    script: Script = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    answer: Callable[[Any], Any] | None = None
    prepare: Callable[[Rig], object] = lambda _rig: None
    swift: bool = False
    forgets: bool = False


class Crash(BaseException):
    """The operator's process is gone."""


class _Observer:
    def request(self, verb: str, resource: str, code: int, seconds: float) -> None: ...

    def wrote(self, resource: str, namespace: str, version: str) -> None: ...

    def reconciled(self, result: str, seconds: float) -> None:
        assert result != "defect", "a defect of the operator"


class Rig:
    """Plays a scenario with at most one fault."""

    def __init__(self, scenario: Scenario, fault: Fault | None = None) -> None:
        self.scenario = scenario
        self.fault = fault
        self.now = 0.0
        self.calls = 0
        self.events = 0
        self.server = ApiServer(self.clock)
        self.kubelet = Kubelet(self.server, scenario.script, answer=scenario.answer)
        self.steps = list(scenario.steps)
        self._late: list[tuple[Any, str, Json]] = []
        self._checks = self.server.admit
        self.server.admit = self._admit
        self.refuse: Callable[[str, Json], None] = lambda _plural, _object: None

    def clock(self) -> datetime:
        return at(self.now)

    # -- the story ------------------------------------------------------------------------------------

    async def play(self) -> Rig:
        """From the run's creation until nothing moves any more."""
        raw = manifest("notes", **self.scenario.spec)
        self.server.create("alignmentruns", raw)
        self.scenario.prepare(self)
        await self._restart()
        settled = -1
        for _ in range(_MOVES):
            try:
                if await self._move():
                    continue
                if self.server.version == settled and not self.steps:
                    return self
                settled = self.server.version
                self.now = self._resync
                self.kubelet.kill_overdue()
                await self._list()
            except Crash:
                await self._restart()
        raise AssertionError("the story does not come to an end")

    async def _move(self) -> bool:
        """One thing happens; False when nothing can before the next resync."""
        self._deliver()
        if (key := self.queue.take()) is not None:
            try:
                await self.workers.one(key)
            finally:
                self.queue.done(key)
            await self.recorder.drain()
            return True
        if self.kubelet.step():
            return True
        if self.steps and self.steps[0].when(self):
            self.steps.pop(0).do(self)
            return True
        pause = self.queue.seconds_to_next()
        if pause is None or self.now + pause >= self._resync:
            return False
        self.now += pause + 0.001
        self.kubelet.kill_overdue()
        return True

    # -- the operator -----------------------------------------------------------------------------------

    async def _restart(self) -> None:
        """A new process: nothing of the old one's memory is left."""
        while True:
            store, self.queue = Store(), WorkQueue(lambda: self.now, random.Random(1))
            bucket = TokenBucket(200.0, 400, lambda: self.now, self._sleep)
            observer = _Observer()
            gateway = Gateway(self, bucket, observer, lambda: self.now)
            self.intake = Intake(store, self.queue, gateway, Freshness(lambda: self.now), namespaces=())
            self.recorder = Recorder(gateway, identity="test", clock=self.clock)
            reconciler = Reconciler(
                store,
                gateway,
                pods=PodDefaults(image="trainer"),
                recorder=self.recorder,
                waiting=WaitingWords(
                    gateway,
                    kueue=True,
                    bucket=TokenBucket(20.0, 40, lambda: self.now),
                    clock=lambda: self.now,
                ),
                clock=self.clock,
                progress={},
            )
            self.workers = Workers(
                self.queue, reconciler.reconcile, observer, count=1, clock=lambda: self.now
            )
            self._cursor = self.server.version
            try:
                while not await self._list():
                    self.now += 1.0
            except Crash:
                continue
            return

    async def _list(self) -> bool:
        self._resync = self.now + _RESYNC_SECONDS
        try:
            await self.intake.list_all()
        except ApiError:
            return False
        return True

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    # -- calls, and what goes wrong with them -------------------------------------------------------------

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        """The transport of the operator."""
        self.calls += 1
        kind = self.fault.kind if self.fault is not None and self.fault.number == self.calls else None
        if kind is FaultKind.CRASH_BEFORE:
            raise Crash
        if kind in _ANSWERS:
            return _ANSWERS[kind]
        if kind is FaultKind.STALE:
            assert method == "GET", "until its fault a story is the one without"
            return self.server.as_of(self.server.version - _STALE_CHANGES).handle(method, path, query, body)
        answer = self.server.handle(method, path, query, body)
        while self.scenario.swift and self.kubelet.step():
            pass
        if kind is FaultKind.CRASH_AFTER:
            raise Crash
        if kind is FaultKind.TIMEOUT:
            raise Unreachable(f"{method} {path}: no answer")
        return answer

    def _deliver(self) -> None:
        """Bring what the watches have; the kubelet's changes and our own alike."""
        late, self._late = self._late, []
        since, self._cursor = self._cursor, self.server.version
        for resource, selector in ((RUNS, ""), (JOBS, CHILDREN_SELECTOR), (PODS, CHILDREN_SELECTOR)):
            for change in self.server.changes(resource.plural, "", since, {"labelSelector": selector}):
                self.events += 1
                hit = self.fault is not None and self.fault.number == self.events
                kind = self.fault.kind if self.fault is not None and hit else None
                if kind is FaultKind.DROPPED:
                    continue
                event = (resource, change.kind, copied(change.object))
                self.intake.watched(*event)  # type: ignore[arg-type]
                if kind is FaultKind.DUPLICATED:
                    self.intake.watched(*event)  # type: ignore[arg-type]
                    self._late.append(event)
        for event in late:
            self.intake.watched(*event)  # type: ignore[arg-type]

    # -- what must hold -----------------------------------------------------------------------------------

    def _admit(self, plural: str, item: Json) -> None:
        self.refuse(plural, item)
        if plural != "jobs":
            return
        for other in self.server.of("jobs"):
            assert not _same_stage(other, item) or is_over(other), (
                f"a second Job for a stage: {item['metadata']['name']}"
            )
        for pod in self.server.of("pods"):
            ended = pod["status"]["phase"] in ("Failed", "Succeeded")
            ended = ended or pod["metadata"]["name"] in self.kubelet.dead
            assert not _same_stage(pod, item) or ended, (
                f"{pod['metadata']['name']} runs beside {item['metadata']['name']}"
            )

    # -- what is there ------------------------------------------------------------------------------------

    @property
    def run(self) -> Json | None:
        return self.server.objects.get(RUN)

    @property
    def reason(self) -> str:
        conditions = ((self.run or {}).get("status") or {}).get("conditions") or []
        return next((c["reason"] for c in conditions if c["type"] == "Succeeded"), "")

    def change_spec(self, **changes: Any) -> None:
        """As a person's kubectl patch."""
        assert self.run is not None
        self.server.change(RUN, spec={**self.run["spec"], **changes})

    def outcome(self) -> Json:
        """Everything that is there in the end, without what differs from one run of the story to the next."""
        found: dict[str, Any] = {}
        for (plural, _, name), item in sorted(self.server.objects.items()):
            if plural == "pods":  # named at random
                job = item["metadata"]["ownerReferences"][0]["name"]
                found.setdefault(f"pods of {job}", []).append(_timeless(item["status"]))
            elif plural != "events":
                found[f"{plural}/{name}"] = _timeless(item)
        return found

    def preemptions(self, stage: StageName) -> int:
        """Counted as seen: an operator that was away cannot know of each, but it knows of most, and of none twice."""
        stages = ((self.run or {}).get("status") or {}).get("stages") or []
        return next((s.get("preemptions", 0) for s in stages if s["name"] == stage), 0)

    def created_jobs(self) -> list[str]:
        return [name for plural, _, name in self.server.created if plural == "jobs"]


_ANSWERS: dict[FaultKind | None, tuple[int, dict[str, str], Json]] = {
    FaultKind.CONFLICT: (409, {}, {"reason": "Conflict", "message": "injected"}),
    FaultKind.SERVER_ERROR: (500, {}, {"reason": "InternalError", "message": "injected"}),
    FaultKind.UNAVAILABLE: (
        503,
        {"Retry-After": "1"},
        {"reason": "ServiceUnavailable", "message": "injected"},
    ),
    FaultKind.THROTTLED: (429, {"Retry-After": "2"}, {"reason": "TooManyRequests", "message": "injected"}),
}


def _same_stage(one: Json, other: Json) -> bool:
    def stage(item: Json) -> tuple[str, ...]:
        labels = item["metadata"]["labels"]
        return item["metadata"]["namespace"], labels[LABEL_RUN_UID], labels[LABEL_STAGE]

    return stage(one) == stage(other)


def is_over(job: Json) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def _timeless(value: Any) -> Any:
    """Without times, versions and identities, which a fault rightly changes."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not _differs(k)}
    if isinstance(value, list):
        return [_timeless(item) for item in value]
    return value


@functools.cache
def _differs(name: str) -> bool:
    return (
        name.endswith(("Time", "Timestamp", "Seconds", "edAt", "uid"))
        or name in ("time", "resourceVersion", "annotations")
        or name == "preemptions"  # compared apart
        or "uid" in name
    )
