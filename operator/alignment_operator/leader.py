"""Leader election through a Lease: of several replicas one works, the others are ready to.

As client-go has it: a standby takes over when the Lease has not changed for its whole duration by the standby's own
clock, so clocks of different machines are never compared. A leader that cannot renew in two thirds of that time,
counted from when it sent the renewal that succeeded, stops working before anybody else may start. One that ends in order gives the Lease back at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from alignment_operator.errors import ApiError
from alignment_operator.gateway import Gateway
from alignment_operator.queue import Key

__all__ = ["Elector"]

_log = logging.getLogger(__name__)
Json = dict[str, Any]


class Elector:
    """Stands for election. seconds: duration of the Lease; clock: monotonic seconds.

    gateway: one with a rate limit of its own, so that a burst of work cannot cost the leadership.
    """

    def __init__(
        self, gateway: Gateway, lease: Key, *, identity: str, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._gateway = gateway
        self._lease = lease
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._held: Json | None = None
        self._until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)

    @property
    def leading(self) -> bool:
        """Whether this replica works now."""
        return self._held is not None

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work whenever elected, until cancelled; ends only when ``work`` does, or fails.

        The Lease is given back when the work has stopped, so that another replica need not wait for it to run out.
        """
        try:
            await self._terms(work)
        finally:
            await self._release()

    async def _terms(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._win()
            _log.info("leading as %s", self._identity)
            worker = asyncio.ensure_future(work())
            keeper = asyncio.ensure_future(self._keep())
            try:
                await asyncio.wait((worker, keeper), return_when=asyncio.FIRST_COMPLETED)
                if not worker.done():
                    self._held = None
            finally:
                for task in (worker, keeper):
                    task.cancel()
                await asyncio.wait((worker, keeper))
            if not worker.cancelled():
                worker.result()
                return
            _log.warning("no longer leading: the Lease was lost or could not be renewed in time")

    async def _release(self) -> None:
        lease, self._held = self._held, None
        if lease is None:
            return
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(self._seconds / 3):
                await self._gateway.replace_lease(lease)
        except (ApiError, TimeoutError) as error:
            _log.warning("the Lease was not given back: %s", error)

    async def _win(self) -> None:
        while True:
            try:
                if await self._try():
                    return
            except ApiError as error:
                _log.info("Lease %s: %s", self._lease, error)
            await asyncio.sleep(self._seconds / 5)

    async def _keep(self) -> None:
        """Renew; returns when that failed for two thirds of the duration, or somebody else holds the Lease."""
        while self._clock() < self._until:
            await asyncio.sleep(self._seconds / 5)
            try:
                async with asyncio.timeout(max(0.0, self._until - self._clock())):
                    if not await self._try():
                        return
            except TimeoutError:
                return
            except ApiError as error:
                _log.warning("Lease %s not renewed: %s", self._lease, error)

    async def _try(self) -> bool:
        """Take or renew the Lease; False when somebody else holds it. Raises ApiError."""
        sent = self._clock()  # an answer may come late; the others count from when the server took it in
        lease = await self._gateway.get_lease(self._lease)
        if lease is None:
            self._held = await self._gateway.create_lease(self._manifest())
        elif self._may_hold(lease):
            self._held = await self._gateway.replace_lease(self._renewed(lease))
        else:
            return False
        self._until = sent + self._seconds * 2 / 3
        return True

    def _may_hold(self, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        mark = lease["metadata"]["resourceVersion"]
        if mark != self._seen[0]:
            self._seen = (mark, self._clock())
        silent = self._clock() - self._seen[1]
        return silent >= float(spec.get("leaseDurationSeconds", self._seconds))

    def _manifest(self) -> Json:
        metadata = {"name": self._lease.name, "namespace": self._lease.namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        return self._renewed(lease)

    def _renewed(self, lease: Json) -> Json:
        spec = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._seconds),
            "renewTime": _now(),
        }
        return {**lease, "spec": spec}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
