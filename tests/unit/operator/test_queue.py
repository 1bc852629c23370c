"""The work queue, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
import time

from alignment_operator.queue import MAXIMUM_RETRY_SECONDS, Key, WorkQueue
from alignment_operator.workers import Workers

A, B = Key("team", "a"), Key("team", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[WorkQueue, Clock]:
    clock = Clock()
    return WorkQueue(clock, random.Random(1)), clock


def test_a_key_waits_once_however_often_it_is_added() -> None:
    subject, _ = queue()
    subject.add(A)
    subject.add(B)
    subject.add(A)
    assert (subject.take(), subject.take(), subject.take()) == (A, B, None)


def test_a_key_in_hand_is_not_given_to_a_second_worker_but_comes_again_afterwards() -> None:
    subject, _ = queue()
    subject.add(A)
    assert subject.take() == A
    subject.add(A)
    assert subject.take() is None
    subject.done(A)
    assert subject.take() == A
    subject.done(A)
    assert subject.take() is None


def test_the_earliest_appointment_counts() -> None:
    subject, clock = queue()
    subject.add_after(A, 10)
    subject.add_after(A, 5)
    subject.add_after(A, 30)
    assert subject.seconds_to_next() == 5
    clock.now += 5
    assert subject.take() == A
    subject.done(A)
    clock.now += 100
    assert subject.take() is None
    assert subject.seconds_to_next() is None


def test_a_look_decides_alone_when_the_next_one_is() -> None:
    subject, clock = queue()
    subject.add_after(A, 3)
    subject.add(A)
    assert subject.take() == A
    subject.add_after(A, 20)
    subject.done(A)
    clock.now += 10
    assert subject.take() is None
    clock.now += 10
    assert subject.take() == A


def test_a_look_under_way_is_not_followed_by_one_that_was_planned_before_it() -> None:
    subject, clock = queue()
    subject.add_after(A, 3, news=False)
    subject.add(A)
    assert subject.take() == A
    clock.now += 5
    assert subject.take() is None
    subject.done(A)
    assert subject.take() is None


def test_appointments_that_count_no_more_are_not_kept() -> None:
    subject, _ = queue()
    for _ in range(10_000):
        subject.add(A)
        assert subject.take() == A
        subject.add_after(A, 86_400)
        subject.done(A)
    assert len(subject._later) < 100
    assert subject.seconds_to_next() == 86_400


def test_an_appointment_for_comfort_waits_for_news() -> None:
    subject, clock = queue()
    subject.add_after(A, 3, news=False)
    subject.add_after(B, 3)
    clock.now += 3
    assert (subject.take(), subject.take(), subject.take()) == (B, A, None)


def test_failures_pause_longer_and_longer_and_success_forgets_them() -> None:
    subject, _ = queue()
    pauses = [subject.retry(A) for _ in range(30)]
    assert pauses[0] <= 0.05
    assert all(pause <= MAXIMUM_RETRY_SECONDS for pause in pauses)
    assert pauses[-1] >= MAXIMUM_RETRY_SECONDS / 2
    subject.forget(A)
    assert subject.retry(A) <= 0.05


def test_a_server_that_asks_to_wait_is_obeyed() -> None:
    subject, _ = queue()
    assert subject.retry(A, at_least=7.0) == 7.0


def test_a_look_that_fails_comes_again_as_news_and_not_before_the_server_allows_it() -> None:
    subject, clock = queue()
    subject.add_after(A, 3, news=False)
    subject.add(A)
    assert subject.take() == A
    subject.retry(A, 10)
    subject.done(A)
    clock.now += 9
    assert subject.take() is None
    subject.review(B)
    clock.now += 1
    assert (subject.take(), subject.take()) == (A, B)


def test_depth_and_age_tell_of_the_backlog() -> None:
    subject, clock = queue()
    assert (subject.depth, subject.oldest_seconds) == (0, 0.0)
    subject.add(A)
    clock.now += 3
    subject.add(B)
    assert (subject.depth, subject.oldest_seconds) == (2, 3.0)


def test_news_go_before_what_is_only_looked_over_again() -> None:
    subject, clock = queue()
    subject.review(A)
    clock.now += 3
    subject.add(B)
    subject.review(B)
    assert (subject.depth, subject.oldest_seconds) == (2, 3.0)
    assert (subject.take(), subject.take(), subject.take()) == (B, A, None)


def test_news_of_a_key_that_is_to_be_looked_over_make_one_turn_of_it() -> None:
    subject, _ = queue()
    subject.review(A)
    subject.review(B)
    subject.add(B)
    assert (subject.take(), subject.take(), subject.take()) == (B, A, None)
    subject.review(A)
    assert subject.take() is None, "it is in hand"
    subject.done(A)
    assert subject.take() == A


async def test_a_key_whose_worker_is_stopped_is_the_next_workers() -> None:
    subject, clock = queue()
    begun = asyncio.Event()

    async def never(_key: Key) -> None:
        begun.set()
        await asyncio.Event().wait()

    class Nobody:
        def reconciled(self, result: str, seconds: float) -> None: ...

    workers = asyncio.ensure_future(Workers(subject, never, Nobody(), count=1, clock=clock).run())
    subject.add(A)
    await asyncio.wait_for(begun.wait(), 5)
    workers.cancel()
    await asyncio.wait((workers,))
    assert subject.take() == A


async def test_a_waiting_worker_wakes_for_an_addition_and_for_an_appointment() -> None:
    subject = WorkQueue(time.monotonic)
    waiting = asyncio.ensure_future(subject.get())
    await asyncio.sleep(0)
    subject.add(A)
    assert await asyncio.wait_for(waiting, 5) == A
    subject.done(A)
    waiting = asyncio.ensure_future(subject.get())
    await asyncio.sleep(0)
    subject.add_after(B, 0.01)
    assert await asyncio.wait_for(waiting, 5) == B
