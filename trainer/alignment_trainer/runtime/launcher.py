"""PID 1 of a node that trains with several processes: starts them, passes signals on, ends them together.

Not torchrun: it turns a worker's 65 or SIGTERM into 1, and the stage contract lives by exit codes. The first process
that fails decides; the others are stopped, since none of them can go on alone. PID 1 does no work and holds no lock of
the training's: what it must do when a process hangs, it can do.

Each process leaves its last word in a file of its own. PID 1 passes one of them on: that of the process that failed
first, or process 0's result.
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from alignment_api.exitcodes import StageExit
from alignment_trainer.errors import RequestError, StageError, Stopped, TemporaryError
from alignment_trainer.runtime import crew as names
from alignment_trainer.runtime.crew import Crew
from alignment_trainer.runtime.failures import OutOfMemory
from alignment_trainer.runtime.results import TERMINATION_LOG

__all__ = [
    "PEER_SECONDS",
    "STOP_SECONDS",
    "Ended",
    "die_with_launcher",
    "launch",
    "wait_for_address",
]

_log = logging.getLogger(__name__)
STOP_SECONDS: Final = 270.0
"""From SIGTERM to SIGKILL, for the checkpoint; the pod's own grace, 300 seconds, must not run out first."""
PEER_SECONDS: Final = 5.0
"""How long the others may take to end by themselves once one has failed: enough to say their own last word."""
MEETING_SECONDS: Final = 1800.0
"""How long the nodes wait for each other: a pod may have an image of many gigabytes to pull."""
_LOOPBACK: Final = "127.0.0.1"
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Ended:
    """How the training ended on this node. word: the last word to pass on, where there is one."""

    code: int
    word: str | StageError | None


def launch(arguments: list[str], crew: Crew, scratch: Path, stop: threading.Event) -> Ended:
    """Run ``alignment-trainer ARGUMENTS`` as every process of this node, to the end of the last one.

    stop: set by the signal handler; passed on as SIGTERM. Raises RequestError when the meeting port is taken, Stopped
    when it is told to stop before node 0 is there.
    """
    with _Meeting(crew, stop) as meeting:
        team = _Team(arguments, crew, scratch, meeting)
    try:
        return team.wait(stop)
    finally:
        team.kill()


def wait_for_address(address: str, stop: threading.Event, seconds: float = MEETING_SECONDS) -> None:
    """Wait until a name has an address: that of a pod has none before the pod is there. Raises TemporaryError, Stopped."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.getaddrinfo(address, None)
        except OSError:
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"Node 0 has no address under {address} after {seconds:.0f} seconds: its pod does not run, or the "
                    "cluster's DNS does not know it.",
                    reason="PeerMissing",
                ) from None
            if stop.wait(1.0):  # names have no event to wait for
                raise Stopped("Stopped while node 0 was waited for; nothing was trained yet.") from None
        else:
            return


def die_with_launcher() -> None:
    """Ask the kernel (Linux) to kill this process when PID 1 dies: nobody would end it."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != os.environ.get(names.LAUNCHER, str(os.getppid())):  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


class _Meeting:
    """The socket at which the processes meet, opened before any of them is started: on one node nobody can take its port.

    One node listens on the loopback only. Used as a context manager: closed here once process 0 has it.
    """

    def __init__(self, crew: Crew, stop: threading.Event) -> None:
        self.socket: socket.socket | None = None
        self.address, self.port = crew.address, crew.port
        if crew.node:
            wait_for_address(crew.address, stop)
            return
        host = _LOOPBACK if crew.nodes == 1 else ""
        both = (
            not host and socket.has_dualstack_ipv6()
        )  # whether pods have IPv4, IPv6 or both is their cluster's choice
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            self.socket = socket.create_server(
                (host, crew.port), family=family, backlog=1024, dualstack_ipv6=both
            )
        except OSError as error:
            raise RequestError(
                f"Port {crew.port} of this node cannot be listened on ({error.strerror}); end what uses it, or set "
                f"{names.PORT} to a free one.",
                reason="WorldSizeInvalid",
            ) from None
        if crew.nodes == 1:
            self.address, self.port = _LOOPBACK, self.socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.socket is not None:
            self.socket.close()


class _Team:
    """The processes of this node."""

    def __init__(self, arguments: list[str], crew: Crew, scratch: Path, meeting: _Meeting) -> None:
        self._crew = crew
        self._words = [scratch / f"last-word-{local}.json" for local in range(crew.processes)]
        self._ends: queue.Queue[tuple[int, int]] = queue.Queue()
        self._processes: list[subprocess.Popen[bytes]] = []
        for local, word in enumerate(self._words):
            word.unlink(missing_ok=True)
            environment = os.environ | _place(crew, local, meeting, os.environ) | {TERMINATION_LOG: str(word)}
            inherited = [meeting.socket.fileno()] if meeting.socket and not crew.node and not local else []
            command = [sys.executable, "-m", "alignment_trainer.main", *arguments]
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=inherited)
            self._processes.append(process)
            threading.Thread(target=self._watch, args=(local, process), daemon=True).start()
        _log.info(
            "node %d of %d: started %d processes, %d in all", crew.node, crew.nodes, crew.processes, crew.size
        )

    def wait(self, stop: threading.Event) -> Ended:
        """Until all are gone. The first failure ends the others; a wish to stop is passed on, once.

        A process that waits in torch's own code does not hear SIGTERM. One that is killed for it was stopped all the same.
        """
        first: tuple[int, int] | None = None
        deadline: float | None = None
        told = killed = deaf = False
        for left in range(self._crew.processes, 0, -1):
            end: tuple[int, int] | None = None
            while end is None:
                if stop.is_set() and not told:
                    told, deadline = True, _sooner(deadline, STOP_SECONDS)
                    self._tell(signal.SIGTERM)
                end = self._next(deadline)
                if end is None and deadline is not None and time.monotonic() > deadline:
                    self.kill()
                    killed, deadline = True, None
            if end[1] and first is None:
                first, deaf = end, killed
                if left > 1:
                    deadline = _sooner(deadline, self._patience(*end, told=told))
        return self._killed_deaf(first[0]) if first and deaf else self._ended(*(first or (0, 0)))

    def kill(self) -> None:
        """End all that still run, at once."""
        self._tell(signal.SIGKILL)

    def _next(self, deadline: float | None) -> tuple[int, int] | None:
        """The next process to end, and its code; None when it was time to look at signals and clock."""
        seconds = 0.2 if deadline is None else min(0.2, max(0.0, deadline - time.monotonic()))
        try:
            return self._ends.get(timeout=seconds)
        except queue.Empty:
            return None

    def _patience(self, local: int, code: int, *, told: bool) -> float:
        """Process ``local`` has failed: seconds until the others must be gone."""
        if code == StageExit.STOPPED or told:  # process 0 may still be storing the checkpoint
            return STOP_SECONDS
        _log.error("process %d of this node ended with %d; the others are stopped", local, code)
        return PEER_SECONDS

    def _killed_deaf(self, local: int) -> Ended:
        rank = self._crew.node * self._crew.processes + local
        word = Stopped(
            f"Process {rank} of the training did not end within {STOP_SECONDS:.0f} seconds of being told to stop and was "
            "killed; the next attempt goes on from the last checkpoint."
        )
        return Ended(word.exit_code, word)

    def _ended(self, local: int, code: int) -> Ended:
        if code == 0 and self._crew.node:
            return Ended(0, None)
        path = self._words[local]
        if path.exists():
            return Ended(code, path.read_text(encoding="utf-8"))
        return Ended(code, _unsaid(self._crew.node * self._crew.processes + local, code))

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(number)

    def _watch(self, local: int, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        self._ends.put((local, 128 - code if code < 0 else code))


def _sooner(deadline: float | None, seconds: float) -> float:
    """``seconds`` from now, or the deadline that is there, whichever comes first: the pod's own grace is not extended."""
    fresh = time.monotonic() + seconds
    return fresh if deadline is None else min(deadline, fresh)


def _place(crew: Crew, local: int, meeting: _Meeting, given: Mapping[str, str]) -> dict[str, str]:
    """A process's variables: our own names, and those that accelerate reads."""
    rank = crew.node * crew.processes + local
    values = {
        names.LAUNCHER: str(os.getpid()),
        names.PROCESSES: str(crew.processes),
        names.LOCAL_RANK: str(local),
        names.ADDRESS: meeting.address,
        names.PORT: str(meeting.port),
        "RANK": str(rank),
        "WORLD_SIZE": str(crew.size),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(crew.processes),
        "MASTER_ADDR": meeting.address,
        "MASTER_PORT": str(meeting.port),
    }
    if rank == 0 and meeting.socket is not None:
        values[names.SOCKET] = str(meeting.socket.fileno())
    if "OMP_NUM_THREADS" not in given:  # each would take all cores
        values["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // crew.processes))
    if crew.nodes == 1 and sys.platform.startswith("linux") and "GLOO_SOCKET_IFNAME" not in given:
        values["GLOO_SOCKET_IFNAME"] = "lo"  # what stays on the node is nobody else's to hear
    return values


def _unsaid(rank: int, code: int) -> StageError | None:
    """What to say for a process that could not."""
    if code == 128 + signal.SIGKILL:
        return OutOfMemory(
            f"Process {rank} of the training was killed (SIGKILL), by the kernel for want of memory as a rule; give the "
            "stage more memory, or lower training.maxLength."
        )
    return None
