"""Leader election over the in-memory API server, in real but short time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from alignment_operator.errors import Unreachable
from alignment_operator.gateway import Gateway
from alignment_operator.leader import Elector
from alignment_operator.limiter import TokenBucket
from alignment_operator.queue import Key
from support.apiserver import ApiServer

LEASE = Key("system", "alignment-operator")
SECONDS = 1.0


class Network:
    """A replica's way to the server; cut: nothing comes through; late: answers to writes take so many seconds."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.cut = False
        self.late = 0.0
        self._answered: asyncio.Queue[str] = asyncio.Queue()

    async def answers(self, count: int) -> None:
        """Wait until so many requests more have been answered."""
        self._answered = asyncio.Queue()
        for _ in range(count):
            await asyncio.wait_for(self._answered.get(), 10)

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        if self.cut:
            raise Unreachable("cut")
        answer = self._server.handle(method, path, query, body)
        if method != "GET":
            await asyncio.sleep(self.late)
        self._answered.put_nowait(method)
        return answer


class Quiet:
    def request(self, verb: str, resource: str, code: int, seconds: float) -> None: ...

    def wrote(self, resource: str, namespace: str, version: str) -> None: ...


class Replica:
    def __init__(self, server: ApiServer, name: str, seconds: float = SECONDS, late: float = 0.0) -> None:
        self.network = Network(server)
        self.network.late = late
        bucket = TokenBucket(1000.0, 1000, time.monotonic)
        gateway = Gateway(self.network, bucket, Quiet(), time.monotonic)
        self.elector = Elector(gateway, LEASE, identity=name, seconds=seconds, clock=time.monotonic)
        self.working = asyncio.Event()
        self.stopped = asyncio.Event()
        self.task = asyncio.ensure_future(self.elector.run(self._work))

    async def _work(self) -> None:
        self.working.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.working.clear()
            self.stopped.set()

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))


async def test_one_of_two_works_and_a_leader_that_ends_in_order_is_followed_at_once() -> None:
    server = ApiServer()
    first, second = Replica(server, "first"), Replica(server, "second")
    await asyncio.wait_for(first.working.wait(), 10)
    assert not second.working.is_set()
    assert (first.elector.leading, second.elector.leading) == (True, False)
    await first.end()
    await asyncio.wait_for(second.working.wait(), 10)
    lease = server.of("leases")[0]["spec"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("second", 1)
    await second.end()
    assert server.of("leases")[0]["spec"]["holderIdentity"] == ""


async def test_a_leader_that_is_cut_off_stops_before_anybody_else_begins() -> None:
    server = ApiServer()
    first, second = Replica(server, "first"), Replica(server, "second")
    await asyncio.wait_for(first.working.wait(), 10)
    first.network.cut = True
    await asyncio.wait_for(first.stopped.wait(), 20)
    assert not second.working.is_set()
    await asyncio.wait_for(second.working.wait(), 20)
    first.network.cut = False
    await first.network.answers(4)
    assert not first.working.is_set()
    await first.end()
    await second.end()


async def test_a_leader_whose_renewal_is_answered_late_and_is_cut_off_then_stops_in_time() -> None:
    began = time.monotonic()
    replica = Replica(ApiServer(), "a", seconds=3.0, late=1.8)
    await asyncio.wait_for(replica.working.wait(), 10)
    replica.network.cut = True
    await asyncio.wait_for(replica.stopped.wait(), 10)
    assert time.monotonic() - began < 3.0, "another replica may work by now"
    await replica.end()


async def test_a_leader_that_died_is_followed_when_its_lease_has_run_out() -> None:
    server = ApiServer()
    first = Replica(server, "first")
    await asyncio.wait_for(first.working.wait(), 10)
    first.network.cut = True  # so that it cannot give the Lease back either
    await first.end()
    began = time.monotonic()
    second = Replica(server, "second")
    await asyncio.wait_for(second.working.wait(), 20)
    assert time.monotonic() - began >= SECONDS * 0.9
    await second.end()


async def test_an_error_of_the_work_ends_the_election_with_it() -> None:
    server = ApiServer()
    gateway = Gateway(Network(server), TokenBucket(1000.0, 1000, time.monotonic), Quiet(), time.monotonic)
    elector = Elector(gateway, LEASE, identity="only", seconds=SECONDS, clock=time.monotonic)

    async def fails() -> None:
        raise RuntimeError("a defect")

    ended = await asyncio.gather(elector.run(fails), return_exceptions=True)
    assert isinstance(ended[0], RuntimeError)
