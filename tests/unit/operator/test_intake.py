"""Listings: what one namespace refuses is no other's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from alignment_operator.errors import ApiError
from alignment_operator.freshness import Freshness
from alignment_operator.gateway import JOBS, RUNS, Gateway
from alignment_operator.intake import Intake
from alignment_operator.limiter import TokenBucket
from alignment_operator.metrics import Metrics
from alignment_operator.queue import Key, WorkQueue
from alignment_operator.store import Store
from support.apiserver import ApiServer
from support.objects import job
from support.runs import manifest

A, B = Key("a", "notes"), Key("b", "notes")


def clock() -> float:
    return 0.0


class World:
    """Two watched namespaces with a run each. refused: what no path may hold."""

    def __init__(self) -> None:
        self.server = ApiServer()
        self.store = Store()
        self.queue = WorkQueue(clock)
        self.refused: set[str] = set()
        gateway = Gateway(self, TokenBucket(1000.0, 1000, clock), Metrics(per_run=False), clock)
        self.intake = Intake(self.store, self.queue, gateway, Freshness(clock), namespaces=("a", "b"))
        for namespace in ("a", "b"):
            raw = manifest()
            raw["metadata"] |= {"namespace": namespace, "uid": f"run-{namespace}"}
            self.server.create("alignmentruns", raw)

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, _content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        if any(part in path for part in self.refused):
            return 403, {}, {"reason": "Forbidden", "message": "cannot list"}
        return self.server.handle(method, path, query, body)

    def queued(self) -> list[Key]:
        keys = sorted(iter(self.queue.take, None))
        for key in keys:
            self.queue.done(key)
        return keys

    def known(self) -> set[Key]:
        return {record.key for record in self.store.runs()}


async def test_a_namespace_that_is_gone_keeps_no_other_from_being_listed() -> None:
    world = World()
    world.refused = {"/namespaces/a/"}
    await world.intake.list_all()
    assert world.queued() == [B]
    assert world.intake.failing == 1


async def test_a_namespace_that_can_be_listed_again_is_by_itself() -> None:
    world = World()
    world.refused = {"/namespaces/a/"}
    await world.intake.list_all()
    world.queued()
    world.refused = set()
    asked = len(world.server.requests)
    await world.intake.list_failing()
    assert world.queued() == [A]
    assert world.intake.failing == 0
    assert [path for _, path in world.server.requests[asked:] if "/namespaces/b/" in path] == []


async def test_what_is_known_of_a_namespace_that_is_refused_later_stays() -> None:
    world = World()
    await world.intake.list_all()
    world.refused = {"/namespaces/a/"}
    world.server.remove(("alignmentruns", "b", "notes"))
    await world.intake.list_all()
    assert world.known() == {A}


async def test_no_run_is_looked_at_before_its_namespace_is_known_completely() -> None:
    world = World()
    world.refused = {"/namespaces/a/pods"}
    await world.intake.list_all()
    world.intake.watched(RUNS, "MODIFIED", world.server.change(("alignmentruns", "a", "notes"), spec={}))
    assert world.known() == {A, B}
    assert world.queued() == [B]
    world.refused = set()
    await world.intake.list_failing()
    assert world.queued() == [A]


async def test_a_job_that_is_let_go_and_deleted_at_once_is_told_of() -> None:
    world = World()
    await world.intake.list_all()
    attempt = job(1000)
    attempt["metadata"] |= {"namespace": "a"}
    attempt["metadata"]["ownerReferences"][0]["uid"] = "run-a"
    world.intake.watched(JOBS, "ADDED", attempt)
    world.queued()
    let_go = {**attempt, "metadata": attempt["metadata"] | {"resourceVersion": "1001", "ownerReferences": []}}
    world.intake.watched(JOBS, "DELETED", let_go)
    assert world.queued() == [A]
    assert world.store.jobs((A, "run-a")) == ()


async def test_where_nothing_can_be_listed_nothing_is_ready() -> None:
    world = World()
    world.refused = {"/namespaces/"}
    with pytest.raises(ApiError):
        await world.intake.list_all()
