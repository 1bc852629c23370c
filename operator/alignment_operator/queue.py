"""A work queue as client-go has it: keys, each at most once in the queue and in one worker's hands.

Plain and synchronous at its core, so that tests move the clock; :meth:`WorkQueue.get` waits for real.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Appointment", "Key", "WorkQueue"]

FIRST_RETRY_SECONDS = 0.05
MAXIMUM_RETRY_SECONDS = 60.0
_SPARE = 64
"""Appointments beyond twice those that count, which are kept before they are cleared away."""


class Key(NamedTuple):
    """Namespace and name of a run."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Appointment(NamedTuple):
    """When a key is handed out again, in seconds. news: before what is only looked over."""

    seconds: float
    news: bool


class WorkQueue:
    """Dedupe, one worker per key, news before reviews, add-after, backoff with jitter.

    A key added while a worker holds it is handed out again when that worker is done: no change is missed.
    clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        # Both insertion-ordered: key to the moment it was added. A key is in one of them at most.
        self._ready: dict[Key, float] = {}
        self._review: dict[Key, float] = {}
        self._held: set[Key] = set()
        self._again: set[Key] = set()
        self._later: list[tuple[float, Key, bool]] = []
        self._due: dict[Key, float] = {}  # the one delay that counts per key: the earliest
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Hand out the key as soon as a worker is free."""
        if key in self._held:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._review.pop(key, self._clock())
            self._changed.set()

    def review(self, key: Key) -> None:
        """Hand out the key once no news waits: thousands that are only looked over must not delay a new run."""
        if key in self._held:
            self._again.add(key)
        elif key not in self._ready and key not in self._review:
            self._review[key] = self._clock()
            self._changed.set()

    def add_after(self, key: Key, seconds: float, *, news: bool = True) -> None:
        """Hand out the key after some time, as news or as what is only looked over; an earlier appointment stays."""
        due = self._clock() + max(0.0, seconds)
        if due < self._due.get(key, float("inf")):
            if len(self._later) > 2 * len(self._due) + _SPARE:  # mostly appointments that count no more
                self._later = [entry for entry in self._later if self._due.get(entry[1]) == entry[0]]
                heapq.heapify(self._later)
            self._due[key] = due
            heapq.heappush(self._later, (due, key, news))
            self._changed.set()

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Hand out the key again after a pause that doubles with each failure. Returns the pause in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 20), MAXIMUM_RETRY_SECONDS)
        pause = max(at_least, pause * self._rng.uniform(0.5, 1.0))
        self.add_after(key, pause)
        return pause

    def forget(self, key: Key) -> None:
        """The key succeeded: the next failure starts from a short pause."""
        self._failures.pop(key, None)

    def take(self) -> Key | None:
        """The oldest key with news that is due, else the oldest to review, held by the caller; None: there is none."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, key, news = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                (self.add if news else self.review)(key)
        waiting = self._ready or self._review
        if not waiting:
            return None
        key = next(iter(waiting))
        del waiting[key]
        self._due.pop(key, None)  # the look that begins decides alone when the next one is
        self._held.add(key)
        return key

    async def get(self) -> Key:
        """As :meth:`take`, waiting until there is one."""
        while (key := self.take()) is None:
            self._changed.clear()
            pause = self.seconds_to_next()
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue
        if self.depth:
            self._changed.set()  # another worker may take the next
        return key

    def done(self, key: Key) -> None:
        """The worker has let go of the key."""
        self._held.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def seconds_to_next(self) -> float | None:
        """Seconds until the next appointment; None when there is none."""
        while self._later and self._due.get(self._later[0][1]) != self._later[0][0]:
            heapq.heappop(self._later)
        return max(0.0, self._later[0][0] - self._clock()) if self._later else None

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready) + len(self._review)

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest of them has waited."""
        now = self._clock()
        moments = (next(iter(keys.values())) for keys in (self._ready, self._review) if keys)
        return now - min(moments, default=now)
