"""News: written once each, whatever the API server answers meanwhile, and never waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from alignment_api.conditions import ConditionType, Reason
from alignment_operator.core.actions import Transition
from alignment_operator.errors import ApiError, Unreachable
from alignment_operator.events import Recorder
from alignment_operator.records import run_record
from support.objects import run
from support.runs import at

BUSY = ApiError(429, "TooManyRequests", "busy", 7.0)
AWAY = ApiError(503, "ServiceUnavailable", "away")
REFUSED = ApiError(403, "Forbidden", "the namespace is being terminated")
THERE = ApiError(409, "AlreadyExists", "exists")


class Server:
    """Takes Events, after it has answered with these errors."""

    def __init__(self, *answers: ApiError) -> None:
        self.answers = list(answers)
        self.written: list[str] = []
        self.changed = asyncio.Event()

    async def create_event(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.answers:
            raise self.answers.pop(0)
        self.written.append(manifest["reason"])
        self.changed.set()
        return manifest


def recorder(server: Server, *reasons: Reason) -> Recorder:
    subject = Recorder(server, identity="test", clock=lambda: at(0))  # type: ignore[arg-type]
    told = (Transition(ConditionType.SUCCEEDED, reason, "", warning=False) for reason in reasons)
    subject.record(run_record(run(1)), tuple(told))
    return subject


async def test_what_the_server_could_not_take_is_offered_again_after_a_pause_that_grows() -> None:
    server = Server(AWAY, Unreachable("no answer"), BUSY)
    subject = recorder(server, Reason.TRAINING, Reason.PUBLISHED)
    assert [await subject.drain() for _ in range(4)] == [0.5, 1.0, 7.0, None]
    assert server.written == ["Training", "Published"]


async def test_what_was_written_though_nobody_answered_is_written_once() -> None:
    server = Server(Unreachable("no answer"), THERE)
    subject = recorder(server, Reason.TRAINING, Reason.PUBLISHED)
    await subject.drain()
    assert await subject.drain() is None
    assert server.written == ["Published"]


async def test_what_the_server_refuses_is_dropped_at_once() -> None:
    server = Server(REFUSED)
    assert await recorder(server, Reason.TRAINING, Reason.PUBLISHED).drain() is None
    assert server.written == ["Published"]


async def test_one_event_that_never_gets_through_does_not_hold_up_the_next_for_ever() -> None:
    server = Server(*[AWAY] * 11)
    subject = recorder(server, Reason.TRAINING, Reason.PUBLISHED)
    pauses = [await subject.drain() for _ in range(11)]
    assert pauses[-2:] == [60.0, None]
    assert server.written == ["Published"]


async def test_the_oldest_go_when_there_are_too_many() -> None:
    server = Server()
    subject = recorder(server, *[Reason.TRAINING] * 5000, Reason.PUBLISHED)
    await subject.drain()
    assert len(server.written) == 5000
    assert server.written[-1] == "Published"


async def test_it_goes_on_by_itself_after_a_failure() -> None:
    server = Server(AWAY)
    task = asyncio.create_task(recorder(server, Reason.PUBLISHED).run())
    await asyncio.wait_for(server.changed.wait(), 10)
    task.cancel()
    assert server.written == ["Published"]
