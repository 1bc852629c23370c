"""The operator's process under measurement: start, what its endpoints say, how much memory it holds."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import aiohttp

__all__ = ["Operator"]

_PORT = 18880


class Operator:
    """Use as an async context manager; ready when entered. seconds_to_ready: from start of the process."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "ALIGNMENT_OPERATOR_TRAINER_IMAGE": "trainer",
            "ALIGNMENT_OPERATOR_LISTEN": f"127.0.0.1:{_PORT}",
            "ALIGNMENT_OPERATOR_PROGRESS_SECONDS": "0",
        }
        self._log = folder / "operator.log"
        self._session = aiohttp.ClientSession(base_url=f"http://127.0.0.1:{_PORT}")
        self.seconds_to_ready = 0.0
        self._began = 0.0

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "alignment_operator.main"]
            self._began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *command, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        while await self.get("/readyz") != 200:
            if self._process.returncode is not None:
                raise RuntimeError(f"the operator has ended, see {self._log}")
            await asyncio.sleep(0.02)
        self.seconds_to_ready = time.monotonic() - self._began
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._session.close()
        self._process.terminate()
        await self._process.wait()

    async def get(self, path: str) -> int:
        """Status of an endpoint; 0 while nothing listens."""
        try:
            async with self._session.get(path) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError:
            return 0

    async def scrape(self) -> str:
        """The text of /metrics."""
        async with self._session.get("/metrics") as answer:
            return await answer.text()

    async def value(self, name: str, where: Callable[[str], bool] = lambda _: True) -> float:
        """Sum of a metric's series whose labels satisfy ``where``."""
        lines = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", await self.scrape(), re.MULTILINE)
        return sum(float(value) for labels, value in lines if where(labels))

    async def idle(self) -> float:
        """Wait until no run waits for a worker and none is being reconciled; seconds since the start."""
        before = -1.0
        while True:
            done = await self.value("alignment_operator_reconcile_total")
            if await self.value("alignment_operator_workqueue_depth") == 0 and done == before:
                return time.monotonic() - self._began
            before = done
            await asyncio.sleep(0.2)

    def megabytes(self, field: str = "VmRSS") -> float:
        """Memory in MiB; VmHWM: the most it ever held."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found.group(1)) / 1024
