"""A server of another program for the length of a test: started, waited for, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["free_port", "serving"]

_PAUSE_SECONDS = 0.05
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[str | Path], log: Path, ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run ``command`` until the block ends; entered once the URL ``ready`` answers.

    environment: on top of this process's. Raises AssertionError with the end of the log where it does not start.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, ready, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    limit, pause = time.monotonic() + _START_SECONDS, threading.Event()
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(ready, timeout=5):  # noqa: S310  on the loopback
                return
        except OSError:
            pause.wait(_PAUSE_SECONDS)
    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise AssertionError(f"{process.args!r} did not start: {said}")
