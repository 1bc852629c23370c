"""One stage as a subprocess: started so that it cannot outlive its parent unseen, told apart by start time.

A stage gets SIGTERM when ``align run`` dies (Linux, PR_SET_PDEATHSIG): it saves a checkpoint and exits. A
process that nevertheless lives on is recognised by pid and start time, so a re-used pid is never harmed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from alignment_api.stage import StageRequest
from alignment_cli.embedded.state import AttemptFolder, write_atomically

__all__ = ["STOP_SECONDS", "alive", "record_exit", "start", "stop", "tell"]

_PR_SET_PDEATHSIG = 1
STOP_SECONDS = 60.0
"""How long a stage may take to save a checkpoint after SIGTERM before it is killed."""


def start(folder: AttemptFolder, request: StageRequest) -> subprocess.Popen[bytes]:
    """Start the stage of an attempt. Its words go to output.log, its last word to termination.log."""
    write_atomically(folder.request, json.dumps(request.for_process().to_wire(), ensure_ascii=False))
    environment = os.environ | {
        "ALIGNMENT_PROGRESS_FILE": str(folder.progress),
        "ALIGNMENT_TERMINATION_LOG": str(folder.termination),
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        sys.executable,
        "-m",
        "alignment_trainer.main",
        str(request.stage),
        "--request",
        str(folder.request),
    ]
    with folder.output.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only align, which then decides
            preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509  one prctl call; align runs no threads
        )
    write_atomically(
        folder.process, json.dumps({"pid": process.pid, "startTicks": _start_ticks(process.pid)})
    )
    return process


def record_exit(folder: AttemptFolder, code: int) -> None:
    """Keep how the attempt ended; a death by signal as 128 + signal, the way shells and Kubernetes say it."""
    write_atomically(folder.exit, json.dumps({"exitCode": 128 - code if code < 0 else code}))


def alive(folder: AttemptFolder) -> bool:
    """True while the attempt's own process runs, whoever started it."""
    record = folder.read(folder.process)
    if record is None or record.get("startTicks") is None:
        return False
    return _start_ticks(int(record["pid"])) == int(record["startTicks"])


def tell(folder: AttemptFolder, number: signal.Signals) -> None:
    """Send a signal to an attempt and its children; nothing when it is gone."""
    record = folder.read(folder.process)
    if record is not None and alive(folder):
        with contextlib.suppress(ProcessLookupError):  # gone between the look and the signal
            os.killpg(int(record["pid"]), number)


def stop(folder: AttemptFolder) -> None:
    """Let an attempt that is nobody's child any more save and end; kill it when it does not. Returns when it is gone."""
    tell(folder, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while alive(folder):
        if time.monotonic() > deadline:
            tell(folder, signal.SIGKILL)
        time.sleep(0.05)  # a process of others has no event to wait for


def _start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot (field 22 of /proc/<pid>/stat); None when gone.

    A zombie is gone, unless it is our own child: then its exit code is still to be fetched.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    state, parent = fields[0], int(fields[1])
    return None if state == "Z" and parent != os.getpid() else int(fields[19])


class _die_with_parent:  # noqa: N801  reads as what it does at the call
    """Asks the kernel for SIGTERM when the parent dies; the library is loaded before the fork."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __call__(self) -> None:
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGTERM)
