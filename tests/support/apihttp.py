"""The in-memory API server behind HTTP, watches included, for tests of a real operator process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from support.apiserver import ApiServer, ServerError

__all__ = ["HttpApi", "serving_api"]

_RESOURCES = {
    "/api/v1": [
        ("namespaces", "Namespace", False),
        ("pods", "Pod", True),
        ("services", "Service", True),
        ("events", "Event", True),
    ],
    "/apis/apiextensions.k8s.io/v1": [("customresourcedefinitions", "CustomResourceDefinition", False)],
    "/apis/batch/v1": [("jobs", "Job", True)],
    "/apis/alignment.dev/v1alpha1": [("alignmentruns", "AlignmentRun", True)],
    "/apis/coordination.k8s.io/v1": [("leases", "Lease", True)],
}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_POLL_SECONDS = 0.005


class HttpApi:
    """A running server. url: where; down: answer nothing but 503; intercept: what answers, for tests to wrap."""

    def __init__(self, server: ApiServer, kubeconfig: Path) -> None:
        self.server = server
        self.kubeconfig = kubeconfig
        self.loop = asyncio.new_event_loop()
        self.down = False
        self.url = ""
        self.intercept: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.answer
        self._news = asyncio.Condition()

    def locked(self, do: Callable[[], Any]) -> Any:
        """Run ``do`` in the server's own thread, between two requests."""

        async def called() -> Any:
            try:
                return do()
            finally:
                await self._tell()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(30)

    def until(self, so: Callable[[], bool], seconds: float = 60.0) -> float:
        """Wait until ``so`` holds, which is looked at after each request and each ``locked``; seconds waited."""
        began = time.monotonic()

        async def waited() -> None:
            async with self._news:
                await asyncio.wait_for(self._news.wait_for(so), seconds)

        asyncio.run_coroutine_threadsafe(waited(), self.loop).result(seconds + 30)
        return time.monotonic() - began

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request and let those who wait look again."""
        try:
            return await self.intercept(request)
        finally:
            await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        if self.down:
            return web.json_response({"kind": "Status", "message": "starting", "code": 503}, status=503)
        found = _discovery(request.path)
        if found is not None:
            return web.json_response(found)
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request)
        body = await request.json() if "json" in request.content_type and request.can_read_body else None
        status, headers, answer = self.server.handle(request.method, request.path, request.query, body)
        if isinstance(answer, str):
            return web.Response(text=answer, status=status, headers=headers)
        return web.json_response(answer, status=status, headers=headers)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.split("/")
        plural = parts[-1]
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        since = int(request.query.get("resourceVersion") or 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            while not self.down:
                try:
                    changes = self.server.changes(plural, namespace, since, request.query)
                except ServerError as error:
                    gone = {"kind": "Status", "code": error.status, "message": str(error)}
                    await _send(response, {"type": "ERROR", "object": gone})
                    return response
                since = max(since, self.server.version)
                for change in changes:
                    await _send(response, {"type": change.kind, "object": change.object})
                await asyncio.sleep(_POLL_SECONDS)
        except ConnectionError:
            pass
        return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


def _discovery(path: str) -> dict[str, Any] | None:
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [p.split("/")[2:] for p in _RESOURCES if p.startswith("/apis/")]
        return {
            "kind": "APIGroupList",
            "groups": [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                    "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version},
                }
                for group, version in groups
            ],
        }
    if path in _RESOURCES:
        resources = [
            {
                "name": plural,
                "singularName": kind.lower(),
                "namespaced": spaced,
                "kind": kind,
                "verbs": _VERBS,
            }
            for plural, kind, spaced in _RESOURCES[path]
        ]
        return {"kind": "APIResourceList", "resources": resources}
    return None


@contextmanager
def serving_api(server: ApiServer, folder: Path) -> Iterator[HttpApi]:
    """Serve on a free port of the loopback in a thread of its own."""
    api = HttpApi(server, folder / "kubeconfig")
    started = threading.Event()
    thread = threading.Thread(target=_serve, args=(api, started), name="api-server", daemon=True)
    thread.start()
    assert started.wait(30)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": api.url}}],
        "users": [{"name": "test", "user": {"token": "test"}}],
    }
    api.kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield api
    finally:
        api.down = True
        api.loop.call_soon_threadsafe(api.loop.stop)
        thread.join(30)


def _serve(api: HttpApi, started: threading.Event) -> None:
    asyncio.set_event_loop(api.loop)

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", api.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = api.loop.run_until_complete(start())
    started.set()
    api.loop.run_forever()
    api.loop.run_until_complete(runner.cleanup())
    api.loop.run_until_complete(asyncio.sleep(0))
    api.loop.close()
