"""The operator's real process for tests, with nothing in its environment but what it is given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from support.serving import free_port

__all__ = ["LIST_EXPIRED", "OperatorProcess", "environment"]

LIST_EXPIRED = re.compile(r"APIClientError: .*too old.*410")
"""In the log where kopf's list expired between two pages: kopf ends, the operator with it, and Kubernetes starts it anew."""


def environment(kubeconfig: Path, **settings: str) -> dict[str, str]:
    """What a process needs; settings by name in lower case. Without HOME and USER, as under an arbitrary user."""
    given = {"trainer_image": "trainer", "listen": "127.0.0.1:0"} | settings
    return {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        **{f"ALIGNMENT_OPERATOR_{name.upper()}": value for name, value in given.items()},
    }


class OperatorProcess:
    """Use as a context manager. Its log is at hand when something fails."""

    def __init__(self, kubeconfig: Path, folder: Path, name: str = "operator", **settings: str) -> None:
        self._port = free_port()
        listen = f"127.0.0.1:{self._port}"
        self._environment = environment(kubeconfig, listen=listen, identity=name, **settings)
        self.log = folder / f"{name}.log"

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "alignment_operator.main"]
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait(30)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an endpoint; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> None:
        """Wait until it is ready."""
        self.wait_for("/readyz", 200)

    def wait_for(self, path: str, status: int) -> None:
        """Wait until an endpoint answers so."""
        self._until(f"{path} answers {status}", lambda: self.get(path)[0] == status)

    def wait_for_value(self, name: str, least: float) -> None:
        """Wait until a metric without labels is that high."""
        self._until(f"{name} is at least {least:g}", lambda: self.value(name) >= least)

    def value(self, name: str) -> float:
        """A metric without labels; 0 where it is not told."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def _until(self, what: str, so: Callable[[], bool]) -> None:
        for _ in range(600):
            if so():
                return
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.05)  # another process: it has no event to wait for
        raise AssertionError(f"it never came to this: {what}\n{self.log.read_text()[-4000:]}")
