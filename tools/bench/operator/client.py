"""A small client of the API server for the measurements: requests, and watches that remember when what came."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import aiohttp

from alignment_operator.connection import login

__all__ = ["Client"]

Json = dict[str, Any]


class Client:
    """Use as an async context manager. Raises RuntimeError with the server's words for an unexpected answer."""

    def __init__(self, kubeconfig: Path) -> None:
        os.environ["KUBECONFIG"] = str(kubeconfig)
        self._info = login()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._info.as_ssl_context(), limit=48)
        self._session = aiohttp.ClientSession(
            base_url=self._info.server,
            connector=connector,
            headers=self._info.as_http_headers(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Json:
        """One request, answered with status below 400."""
        assert self._session is not None
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers={"Content-Type": kind}) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]}")
            found: Json = json.loads(text)
            return found

    async def status(self, path: str, status: Json) -> Json:
        """Merge into an object's status."""
        return await self.call(
            "PATCH", f"{path}/status", {"status": status}, kind="application/merge-patch+json"
        )

    async def ready(self) -> None:
        """Wait until the server answers."""
        assert self._session is not None
        for _ in range(600):
            try:
                async with self._session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        raise RuntimeError("the API server is not ready after a minute")

    async def watch(self, path: str, seen: Callable[[str, Json, float], None]) -> None:
        """Call ``seen`` with kind, object and the moment of arrival, from now on until cancelled."""
        assert self._session is not None
        listed = await self.call("GET", f"{path}?limit=1")
        since = listed["metadata"]["resourceVersion"]
        while True:
            query = f"{path}?watch=true&resourceVersion={since}&allowWatchBookmarks=true"
            async with self._session.get(query) as answer:
                buffer = b""
                async for chunk in answer.content.iter_any():
                    moment = time.monotonic()
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        since = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            seen(event["type"], event["object"], moment)
