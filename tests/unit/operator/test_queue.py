"""The work queue, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
import time

from alignment_operator.queue import MAXIMUM_RETRY_SECONDS, Key, WorkQueue

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


def test_depth_and_age_tell_of_the_backlog() -> None:
    subject, clock = queue()
    assert (subject.depth, subject.oldest_seconds) == (0, 0.0)
    subject.add(A)
    clock.now += 3
    subject.add(B)
    assert (subject.depth, subject.oldest_seconds) == (2, 3.0)


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
