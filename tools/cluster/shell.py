"""Run other programs: one call that raises a sentence, and daemons that outlive us, known by their pid files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Failed", "alive", "run", "start", "stop", "wait_until"]

_DEATH_SECONDS = 20.0
"""A killed process takes time to go on a machine that is busy, and its port is taken until then."""


class Failed(Exception):
    """A step that did not work: what was tried, and what the program said."""


def run(
    command: Sequence[object],
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    show: bool = False,
) -> str:
    """Run to the end and return standard output. Raises Failed; with ``check=False`` a failure is ignored.

    show: leave the program's error stream to the terminal, for long work that reports progress there.
    """
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        words = " ".join(str(part) for part in command)
        said = (done.stderr or done.stdout or "").strip()[-1500:]
        raise Failed(f"{words[:300]} ended with {done.returncode}: {said}")
    return done.stdout


def start(
    name: str, command: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Start a daemon in a session of its own, unless its pid file names a living one. Log: ``folder/name.log``."""
    if alive(name, folder):
        return
    words = [str(part) for part in command]
    with (folder / f"{name}.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
        # Not subprocess: nobody will wait for this one.
        pid = os.posix_spawnp(
            words[0],
            words,
            {**os.environ, **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
            setsid=True,
        )
    (folder / f"{name}.pid").write_text(f"{pid} {_started(pid)}")


def stop(name: str, folder: Path, patience: float = 3.0) -> None:
    """End a daemon: asked first, killed after ``patience`` seconds. Returns when it is gone and its ports are free."""
    pid = alive(name, folder)
    if pid:
        for sign, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _DEATH_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = time.monotonic() + seconds
            while alive(name, folder) and time.monotonic() < deadline:
                time.sleep(0.05)
    (folder / f"{name}.pid").unlink(missing_ok=True)


def alive(name: str, folder: Path) -> int:
    """The process number of a running daemon, or 0. A recycled number is told apart by its start time."""
    try:
        pid, started = (folder / f"{name}.pid").read_text().split()
    except (OSError, ValueError):
        return 0
    with contextlib.suppress(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)
    return int(pid) if started == _started(int(pid)) else 0


def wait_until(what: str, seconds: float, ready: Callable[[], bool], pause: float = 0.2) -> None:
    """Poll until ``ready``; a Failed from it counts as not yet. Raises Failed with the last reason."""
    deadline = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except Failed as error:
            reason = f": {error}"
        time.sleep(pause)
    raise Failed(f"{what} was not so after {seconds:.0f} s{reason}")


def _started(pid: int) -> str:
    """Start time in clock ticks, of a process that has not ended; "" otherwise."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
