"""HTTP for Kubernetes and Prometheus: ``/healthz``, ``/readyz``, ``/metrics``.

Alive means: the loop answers, and no watch has gone silent while things happened (a restart mends that; it would
not mend an API server that is away, so that does not count). Ready means: everything that can be listed has been, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

__all__ = ["serving"]


@asynccontextmanager
async def serving(
    listen: str,
    *,
    ailing: Callable[[], str],
    ready: Callable[[], bool],
    scrape: Callable[[], Callable[[], bytes]],
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port.

    listen: host:port, without a host all addresses; ailing: what is wrong, empty when nothing is; scrape: reads the state, on the loop, and gives what
    renders it, in a thread of its own so that a scrape never holds up the loop.
    """

    async def healthz(_request: web.Request) -> web.Response:
        complaint = ailing()
        return web.Response(status=500 if complaint else 200, text=f"{complaint or 'alive'}\n")

    async def readyz(_request: web.Request) -> web.Response:
        return web.Response(text="ready\n") if ready() else web.Response(status=503, text="listing\n")

    async def metrics(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(scrape())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, _, port = listen.rpartition(":")
        site = web.TCPSite(runner, host.strip("[]") or None, int(port))
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
