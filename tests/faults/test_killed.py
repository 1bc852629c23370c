"""A real operator process over HTTP, killed at random moments again and again: nothing is lost and nothing doubled.

``make soak`` does the same with 1,000 kills.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from alignment_api.names import STAGES, attempt_name
from support.apihttp import HttpApi, serving_api
from support.apiserver import ApiServer
from support.kubelet import Kubelet
from support.process import LIST_EXPIRED, environment
from support.runs import manifest

KILLS = int(os.environ.get("ALIGNMENT_SOAK_KILLS", "25"))
RUNS_AT_ONCE = 8
REQUESTS_UNTIL_KILL = 120
FORGET_AFTER_CHANGES = 20_000
"""Then the server forgets its history, and every watch begins anew with a 410."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(600, KILLS * 10))]


class Operator:
    """The process. A kill is due at a random request, before it is carried out or after."""

    def __init__(self, api: HttpApi, folder: Path, rng: random.Random) -> None:
        self._environment = environment(api.kubeconfig, queries_per_second="1000")
        self._log = folder / "operator.log"
        self._rng = rng
        self._process: subprocess.Popen[bytes] | None = None
        self._due: int | None = None
        self._lock = threading.Lock()
        self.died = threading.Event()
        self.expired = 0

    def start(self, *, kill: bool) -> None:
        """Start it anew; with ``kill`` it dies at some request."""
        self.died.clear()
        command = [sys.executable, "-m", "alignment_operator.main"]
        with self._lock, self._log.open("ab") as log:
            self._due = self._rng.randint(1, REQUESTS_UNTIL_KILL) if kill else None
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it for good."""
        with self._lock:
            self._due = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def wait(self, meanwhile: Callable[[], object]) -> None:
        """Wait for its death by kill, doing ``meanwhile`` now and then; any other end is a failure.

        But for one: a list of the watches that expired between its pages, after which the kubelet would start it anew.
        """
        for _ in range(600):
            if self.died.wait(0.2):
                break
            if self._has_expired():
                self.expired += 1
                self.start(kill=True)
            meanwhile()
        assert self.died.is_set(), self._log.read_text()[-4000:]
        assert self._process is not None
        assert self._process.wait(30) == -signal.SIGKILL, self._log.read_text()[-4000:]

    def _has_expired(self) -> bool:
        if self._process is None or self._process.poll() != 1:
            return False
        log = self._log.read_text()
        self._log.write_text("")
        assert LIST_EXPIRED.search(log), log[-4000:]
        return True

    def count(self) -> bool:
        """One request has come; True when this is where the process dies."""
        with self._lock:
            if self._due is None:
                return False
            self._due -= 1
            return self._due == 0

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self.died.set()


@contextmanager
def cluster(folder: Path, rng: random.Random) -> Iterator[tuple[HttpApi, Operator]]:
    """An API server whose requests may be the operator's last, and whose kubelet never rests."""
    server = ApiServer()
    with serving_api(server, folder) as api:
        operator = Operator(api, folder, rng)
        answer = api.answer

        async def deadly(request: web.Request) -> web.StreamResponse:
            if not operator.count():
                return await answer(request)
            # A watch is answered as long as it lasts: waiting for its answer would be waiting for ever.
            if rng.random() < 0.5 or "watch" in request.query:
                operator.kill()
                return web.Response(status=503)
            response = await answer(request)
            operator.kill()
            return response

        api.intercept = deadly
        kubelet = Kubelet(server)
        ended = threading.Event()

        def live() -> None:
            while not ended.wait(0.002):
                api.locked(kubelet.step)

        life = threading.Thread(target=live, daemon=True)
        life.start()
        try:
            yield api, operator
        finally:
            operator.stop()
            ended.set()
            life.join(30)


class Work:
    """Runs come, finish, are looked at and go; there are always some under way."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._number = 0
        self.finished = 0

    def renew(self) -> None:
        """Check and remove what has finished, and bring in as many new runs."""
        runs = self._server.of("alignmentruns")
        for raw in runs:
            if _outcome(raw) != "Unknown":
                self._check(raw)
                self._server.remove(("alignmentruns", "team", raw["metadata"]["name"]))
                self.finished += 1
        for _ in range(RUNS_AT_ONCE - len(self._server.of("alignmentruns"))):
            self._number += 1
            raw = manifest(f"run-{self._number}")
            del raw["metadata"]["uid"]
            self._server.create("alignmentruns", raw)
        if len(self._server.history) > FORGET_AFTER_CHANGES:
            self._server.forget_history()

    def all_done(self) -> bool:
        """Every run has its end; checked."""
        runs = self._server.of("alignmentruns")
        if any(_outcome(raw) == "Unknown" for raw in runs):
            return False
        for raw in runs:
            self._check(raw)
        self.finished += len(runs)
        return True

    def _check(self, raw: dict[str, Any]) -> None:
        name = raw["metadata"]["name"]
        assert _outcome(raw) == "True", f"{name} was not published: {raw['status']}"
        created = Counter(n for p, _, n in self._server.created if p == "jobs" and n.startswith(f"{name}-"))
        wanted = {attempt_name(name, stage, 1): 1 for stage in STAGES}
        assert created == wanted, f"{name}: {raw['status']['stages']} {raw['status'].get('lastFailure')}"


def _outcome(raw: dict[str, object]) -> str:
    status = raw.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return next((str(c["status"]) for c in conditions if c["type"] == "Succeeded"), "Unknown")


def _until(done: Callable[[], bool], api: HttpApi) -> None:
    tick = threading.Event()
    for _ in range(1200):
        if api.locked(done):
            return
        tick.wait(0.1)
    raise AssertionError("the work does not come to an end")


def test_kills_at_random_moments_lose_no_status_and_start_no_second_job(tmp_path: Path) -> None:
    rng = random.Random(20260105)
    with cluster(tmp_path, rng) as (api, operator):
        work = Work(api.server)
        for _ in range(KILLS):
            api.locked(work.renew)
            operator.start(kill=True)
            operator.wait(lambda: api.locked(work.renew))
        operator.start(kill=False)
        _until(work.all_done, api)
        print(
            f"{KILLS} kills, {operator.expired} ends by an expired list, {work.finished} runs published,"
            f" {len(api.server.requests)} requests"
        )
        assert work.finished > KILLS / 10
        assert api.server.idle_writes == []
