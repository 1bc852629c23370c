"""Progress is read from a real HTTP server in the place of a pod's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from alignment_api.names import StageName
from alignment_operator.progress import ProgressReader
from alignment_operator.queue import Key, WorkQueue
from alignment_operator.records import PodRecord, pod_record
from alignment_operator.store import Store
from alignment_trainer.runtime.progress import ProgressReporter
from alignment_trainer.runtime.server import serve
from support.objects import pod

RUNNING = {
    "phase": "Running",
    "podIP": "127.0.0.1",
    "containerStatuses": [{"state": {"running": {"startedAt": "2026-01-05T12:00:00Z"}}}],
}


@pytest.fixture
def stage() -> Iterator[tuple[ProgressReporter, int]]:
    """A stage that serves its progress, as the trainer does."""
    reporter = ProgressReporter(StageName.TRAIN, None)
    with serve(reporter) as port:
        yield reporter, port


class Rounds:
    """The address of every pod, and a note of each time it was asked for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked: asyncio.Queue[str] = asyncio.Queue()

    def address(self, pod: PodRecord) -> str:
        self._asked.put_nowait(pod.uid)
        return self._url

    async def pass_by(self, count: int, uid: str = "pod-1") -> None:
        """Wait until this pod has been looked at so many times more."""
        while not self._asked.empty():
            self._asked.get_nowait()
        while count:
            count -= await asyncio.wait_for(self._asked.get(), 20) == uid


async def _reading(reader: ProgressReader, queue: WorkQueue) -> Key:
    return await asyncio.wait_for(queue.get(), 20)


async def test_a_step_forward_is_read_and_brings_the_run_up_and_standing_still_does_not(
    stage: tuple[ProgressReporter, int],
) -> None:
    reporter, port = stage
    store, queue = Store(), WorkQueue(time.monotonic)
    store.put_pod(pod_record(pod(5, status=RUNNING)))
    rounds = Rounds(f"http://127.0.0.1:{port}")
    reader = ProgressReader(store, queue, seconds=0.02, address=rounds.address)
    reporter.update(3, 10, activity="DPO")
    task = asyncio.ensure_future(reader.run())
    try:
        assert await _reading(reader, queue) == Key("team", "notes")
        assert reader.readings["pod-1"].step == 3
        queue.done(Key("team", "notes"))
        await rounds.pass_by(3)
        assert queue.depth == 0
        reporter.update(4, 10, activity="DPO")
        await _reading(reader, queue)
        assert reader.readings["pod-1"].percent == 40
        store.put_pod(pod_record(pod(6, status={"phase": "Succeeded"})))
        store.put_pod(pod_record(pod(7, name="another", uid="pod-2", status=RUNNING)))
        await rounds.pass_by(2, "pod-2")
        assert set(reader.readings) == {"pod-2"}
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_pod_that_does_not_answer_stops_nobody() -> None:
    store, queue = Store(), WorkQueue(time.monotonic)
    store.put_pod(pod_record(pod(5, status=RUNNING)))
    rounds = Rounds("http://127.0.0.1:9")
    reader = ProgressReader(store, queue, seconds=0.01, address=rounds.address)
    task = asyncio.ensure_future(reader.run())
    await rounds.pass_by(3)
    assert not task.done()
    assert reader.readings == {}
    task.cancel()
    await asyncio.wait((task,))
