"""A real operator process against the API server in memory, with a kubelet that keeps things moving."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.apihttp import HttpApi
from support.kubelet import Kubelet

__all__ = ["operating", "stepping"]

_START_SECONDS = 60.0


@contextmanager
def operating(folder: Path, api: HttpApi, **settings: str) -> Iterator[str]:
    """Run the operator until the block ends; yields host:port of its /metrics. settings: by field of Settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        "KUBECONFIG": str(api.kubeconfig),
        "ALIGNMENT_OPERATOR_TRAINER_IMAGE": "trainer:test",
        "ALIGNMENT_OPERATOR_LISTEN": listen,
        **{f"ALIGNMENT_OPERATOR_{name.upper()}": value for name, value in settings.items()},
    }
    with (folder / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "alignment_operator.main"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(f"http://{listen}/readyz", process, folder / "operator.log")
        yield listen
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def stepping(api: HttpApi, kubelet: Kubelet) -> Iterator[None]:
    """Let the kubelet work in a thread until the block ends."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.01):
            while api.locked(kubelet.step):
                pass

    thread = threading.Thread(target=work, name="kubelet", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own process
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the operator did not start: {log.read_text(encoding='utf-8')[-2000:]}")
