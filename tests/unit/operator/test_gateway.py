"""Calls to the API server: pages, errors, and what counts as success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from alignment_operator.errors import ApiError
from alignment_operator.gateway import JOBS, RUNS, Gateway
from alignment_operator.limiter import TokenBucket
from alignment_operator.queue import Key
from support.apiserver import ApiServer
from support.objects import job, run


class Counting:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.writes: list[tuple[str, str]] = []

    def request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        self.calls.append((verb, resource, code))

    def wrote(self, resource: str, namespace: str, version: str) -> None:
        self.writes.append((resource, namespace))


class Direct:
    """Straight into the server; ``between`` happens before each call."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.answer: tuple[int, dict[str, str], Any] | None = None

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        return self.answer or self.server.handle(method, path, query, body)


def gateway() -> tuple[Gateway, Direct, Counting]:
    transport, counting = Direct(ApiServer()), Counting()
    return (
        Gateway(transport, TokenBucket(1e6, 10**6, lambda: 0.0), counting, lambda: 0.0),
        transport,
        counting,
    )


async def test_a_long_listing_comes_in_pages_of_one_version() -> None:
    subject, transport, counting = gateway()
    for number in range(450):
        transport.server.create("alignmentruns", run(1, name=f"run-{number}", uid=f"u{number}"))
    pages = [(len(items), version) async for items, version in subject.list_pages(RUNS, None)]
    assert [size for size, _ in pages] == [200, 200, 50]
    assert len({version for _, version in pages}) == 1
    assert counting.calls == [("list", "alignmentruns", 200)] * 3


async def test_a_listing_that_grew_too_old_is_an_error_for_the_caller_to_begin_anew() -> None:
    subject, transport, _ = gateway()
    for number in range(250):
        transport.server.create("alignmentruns", run(1, name=f"run-{number}", uid=f"u{number}"))
    pages = subject.list_pages(RUNS, None)
    await anext(pages)
    transport.server.version += 1
    transport.server.forget_history()
    with pytest.raises(ApiError, match="410"):
        await anext(pages)


async def test_only_children_of_runs_are_listed() -> None:
    subject, transport, _ = gateway()
    stray = job(1, stage="prepare", uid="job-0")
    stray["metadata"]["labels"] = {}
    transport.server.create("jobs", stray)
    transport.server.create("jobs", job(1))
    items = [item async for page, _ in subject.list_pages(JOBS, "team") for item in page]
    assert [item["metadata"]["name"] for item in items] == ["notes-train-1"]


async def test_a_status_is_written_only_over_the_version_it_was_made_from() -> None:
    subject, transport, counting = gateway()
    raw = transport.server.create("alignmentruns", run(1))
    version = raw["metadata"]["resourceVersion"]
    await subject.write_status(Key("team", "notes"), version, {"headline": "first"})
    assert counting.writes == [("alignmentruns", "team")]
    with pytest.raises(ApiError) as caught:
        await subject.write_status(Key("team", "notes"), version, {"headline": "second"})
    assert caught.value.conflict
    assert not caught.value.exists
    assert transport.server.of("alignmentruns")[0]["status"] == {"headline": "first"}


async def test_deleting_what_is_gone_is_fine_and_another_of_the_same_name_stays() -> None:
    subject, transport, _ = gateway()
    await subject.delete_job(Key("team", "notes-train-1"), "job-1")
    transport.server.create("jobs", job(1, uid="job-2"))
    with pytest.raises(ApiError):
        await subject.delete_job(Key("team", "notes-train-1"), "job-1")
    assert len(transport.server.of("jobs")) == 1


@pytest.mark.parametrize(
    ("code", "message", "refused"),
    [
        (403, "exceeded quota: gpus", True),
        (422, "Job is invalid", True),
        (500, 'failed calling webhook "mjob.kb.io": connection refused', True),
        (500, "etcdserver: request timed out", False),
        (503, "apiserver is shutting down", False),
        (429, "too many requests", False),
    ],
)
async def test_a_refusal_for_people_is_told_from_trouble_that_passes(
    code: int, message: str, refused: bool
) -> None:
    subject, transport, _ = gateway()
    transport.answer = (code, {"Retry-After": "3"}, {"reason": "R", "message": message})
    with pytest.raises(ApiError) as caught:
        await subject.create_job(job(1))
    assert (caught.value.refusal, caught.value.retry_after, caught.value.message) == (refused, 3.0, message)


async def test_the_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    now, waits = [0.0], []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    bucket = TokenBucket(10.0, 3, lambda: now[0], sleep)
    for _ in range(5):
        await bucket.take()
    assert waits == pytest.approx([0.1, 0.1])
    now[0] += 100.0
    for _ in range(3):
        await bucket.take()
    assert len(waits) == 2
