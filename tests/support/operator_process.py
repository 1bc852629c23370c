"""A real operator process against the API server in memory, with a kubelet that keeps things moving."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.apihttp import HttpApi
from support.kubelet import Kubelet
from support.process import environment
from support.serving import free_port, serving

__all__ = ["operating", "stepping"]


@contextmanager
def operating(folder: Path, api: HttpApi, **settings: str) -> Iterator[str]:
    """Run the operator until the block ends; yields host:port of its /metrics. settings: by field of Settings."""
    listen = f"127.0.0.1:{free_port()}"
    with serving(
        [sys.executable, "-m", "alignment_operator.main"],
        folder / "operator.log",
        f"http://{listen}/readyz",
        environment(api.kubeconfig, listen=listen, **settings),
    ):
        yield listen


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
