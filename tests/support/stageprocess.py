"""The train stage as the real process, or several: PID 1 of each node, with the variables that the operator sets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api.stage import StageRequest, StageResult, read_termination_message
from alignment_trainer.storage import uris
from support.trainstage import losses_of

__all__ = ["StageProcess", "free_port", "raising", "signal_at", "start", "start_nodes"]


@dataclass
class StageProcess:
    """PID 1 of one node. folder: its scratch, log and termination log."""

    process: subprocess.Popen[bytes]
    folder: Path
    request: StageRequest

    def wait(self, seconds: float = 500) -> int:
        """Its exit code; the way shells say it for a death by signal."""
        code = self.process.wait(seconds)
        return 128 - code if code < 0 else code

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, and it alone."""
        self.process.send_signal(number)

    @property
    def log(self) -> str:
        """What it and its processes wrote so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def last_word(self) -> Any:
        """What it left in the termination log."""
        file = self.folder / "termination.log"
        return read_termination_message(file.read_text(encoding="utf-8")) if file.exists() else None

    @property
    def progress(self) -> dict[str, Any]:
        """What it tells ``align run``."""
        file = self.folder / "progress.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}

    @property
    def record(self) -> dict[str, Any]:
        """``training.json`` of the candidate."""
        result = self.last_word
        assert isinstance(result, StageResult), self.log[-4000:]
        file = Path(uris.join(result.output.uri, "training.json").removeprefix("file://"))
        return dict(json.loads(file.read_text(encoding="utf-8")))

    @property
    def losses(self) -> list[float]:
        """Loss of each step, as the candidate's record has it."""
        return losses_of(self.record)

    def children(self) -> list[int]:
        """Process ids of the processes it started, in order of their numbers."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        return [int(pid) for pid in found.split()]

    def until(self, what: Callable[[], Any], seconds: float = 240) -> None:
        """Wait until something is so, while it runs."""
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.log[-4000:]
            assert time.monotonic() < deadline, self.log[-4000:]
            time.sleep(0.02)  # a file of another process has no event to wait for

    def until_step(self, step: int) -> None:
        """Wait until so many steps are done."""
        self.until(lambda: self.progress.get("activity") == "training" and self.progress["step"] >= step)

    def kill(self) -> None:
        """End it and all that it started, without a word."""
        for pid in (*self.children(), self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


def start(request: StageRequest, folder: Path, *, prelude: str = "", **environment: str) -> StageProcess:
    """Start PID 1 of a node. prelude: Python that it and its processes run before anything else, to break something."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "request.json"
    file.write_text(json.dumps(request.to_wire()), encoding="utf-8")
    for old in ("termination.log", "progress.json"):
        (folder / old).unlink(missing_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNMENT_")}
    ours = {
        "ALIGNMENT_SCRATCH": str(folder / "scratch"),
        "ALIGNMENT_TERMINATION_LOG": str(folder / "termination.log"),
        "ALIGNMENT_PROGRESS_FILE": str(folder / "progress.json"),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if prelude:
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site" / "sitecustomize.py").write_text(prelude, encoding="utf-8")
        ours["PYTHONPATH"] = str(folder / "site")
    command = [sys.executable, "-m", "alignment_trainer.main", "train", "--request", str(file)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env=kept | ours | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    return StageProcess(process, folder, request)


def start_nodes(request: StageRequest, folder: Path, nodes: int, **environment: str) -> list[StageProcess]:
    """PID 1 of several nodes on this machine, each with a scratch folder of its own."""
    meeting = {
        "ALIGNMENT_NODES": str(nodes),
        "ALIGNMENT_MASTER_ADDRESS": "127.0.0.1",
        "ALIGNMENT_MASTER_PORT": str(free_port()),
    }
    return [
        start(
            request, folder / f"node-{node}", **(meeting | {"ALIGNMENT_NODE_RANK": str(node)} | environment)
        )
        for node in range(nodes)
    ]


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def signal_at(step: int, number: signal.Signals, *, to: str = "os.getpid()", rank: int = 0) -> str:
    """A prelude: at the end of a training step, process ``rank`` sends a signal; ``to``: whom, as Python."""
    return f"""
def _signal_at():
    import os
    from alignment_trainer.runtime.progress import ProgressReporter
    told = ProgressReporter.update
    def update(self, step, steps, *, activity="", metrics=None):
        told(self, step, steps, activity=activity, metrics=metrics)
        if activity == "training" and step == {step} and os.environ.get("RANK", "0") == "{rank}":
            os.kill({to}, {int(number)})
    ProgressReporter.update = update
_signal_at()
"""


def raising(error: str, *, rank: int) -> str:
    """A prelude: process ``rank`` raises ``error`` (Python) when it reads the train side."""
    return f"""
import os
import alignment_trainer.data.snapshot as snapshot
from alignment_trainer.errors import DataError, RequestError
def read_split(*_, **__):
    raise {error}
if os.environ.get("RANK") == "{rank}":
    snapshot.read_split = read_split
"""
