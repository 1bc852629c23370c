"""A token bucket: so many API requests per second on average, so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["TokenBucket"]


class TokenBucket:
    """Waits in order of arrival. clock: monotonic seconds; sleep: how to wait."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._sleep = sleep
        self._tokens = float(burst)
        self._filled = clock()

    async def take(self) -> None:
        """Wait for one token. The debt is taken at once, so that nobody overtakes."""
        self._fill()
        self._tokens -= 1.0
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._per_second)

    def try_take(self) -> bool:
        """Take one token if there is one."""
        self._fill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
