"""The loop of an embedded run: observe, plan, act, write, wait for something to happen.

The same plan as the operator's decides; this module only starts and stops processes and keeps the state.
Interrupted at any point, the next call goes on where this one stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Protocol

from alignment_api.run import AlignmentRun
from alignment_api.status import ProgressStatus
from alignment_cli.embedded import process
from alignment_cli.embedded.observe import observe
from alignment_cli.embedded.state import State
from alignment_cli.output import warn
from alignment_operator.core.actions import Plan, StopStage
from alignment_operator.core.observed import Observed
from alignment_operator.core.plan import plan

__all__ = ["Executor", "Listener", "Silent", "warn_of_stopping"]

POLL_SECONDS = 0.2
"""How often a running stage is looked at; it costs two small file reads."""


class Listener(Protocol):
    """Who watches a run: the terminal view, or nobody."""

    def changed(self, run: AlignmentRun) -> None:
        """The status was written."""
        ...

    def progressed(self, run: AlignmentRun, progress: ProgressStatus) -> None:
        """The running stage said how far it is."""
        ...

    def stopping(self, attempts: Sequence[str], seconds: float) -> None:
        """These attempts were told to save and end, and have so long; nothing else happens meanwhile."""
        ...


def warn_of_stopping(attempts: Sequence[str], seconds: float) -> None:
    """Say at once, on standard error, what is waited for."""
    warn(f"Stopping: {', '.join(attempts)} saves its work and ends, within {seconds:.0f} s at most.")


class Silent:
    """A listener for machines."""

    def changed(self, run: AlignmentRun) -> None:
        """Nothing to show."""

    def progressed(self, run: AlignmentRun, progress: ProgressStatus) -> None:
        """Nothing to show."""

    def stopping(self, attempts: Sequence[str], seconds: float) -> None:
        """Beside what machines read: a person may have pressed Ctrl-C."""
        warn_of_stopping(attempts, seconds)


class Executor:
    """Drives one run to where it ends or waits for a person."""

    def __init__(
        self, state: State, listener: Listener, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._state = state
        self._listener = listener
        self._now = now
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._told: dict[str, float] = {}
        self._interrupted = False

    def run(self, name: str) -> AlignmentRun:
        """Work on a run until it ends, waits for a person, is suspended, or this process is told to stop.

        Raises CommandError when another process works on it; KeyboardInterrupt after a clean stop on a signal.
        """
        with self._state.exclusively(name), _SignalsNoted(self._interrupt):
            try:
                while not self._interrupted:
                    run = self._state.load(name)
                    self._reap(run)
                    observed = observe(self._state, run)
                    planned = plan(observed, self._now())
                    run = self._act(run, planned)
                    if self._idle(observed, planned) and not self._interrupted:
                        return run
                    self._wait(run, observed, planned)
                raise KeyboardInterrupt
            finally:
                self._stop_all()

    def _idle(self, observed: Observed, planned: Plan) -> bool:
        """True when only a person, or a change of the spec, can move the run on."""
        waiting = planned.requeue_seconds is not None or bool(planned.actions) or bool(self._children)
        settled = planned.status == observed.run.status
        return settled and not waiting and not any(attempt.active for attempt in observed.attempts)

    def _interrupt(self) -> None:
        self._interrupted = True

    def _act(self, run: AlignmentRun, planned: Plan) -> AlignmentRun:
        for action in planned.actions:
            if isinstance(action, StopStage):
                self._stop(run, action)
            elif not self._interrupted:
                folder = self._state.attempt(run.metadata.name, action.stage, action.attempt)
                folder.path.mkdir(parents=True, exist_ok=True)
                self._children[action.name] = process.start(folder, action.request)
        if planned.status == run.status:
            return run
        saved = self._state.save_status(run, planned.status)
        self._listener.changed(saved)
        return saved

    def _wait(self, run: AlignmentRun, observed: Observed, planned: Plan) -> None:
        """Until a child ends, the plan asks to look again, a signal comes, or a moment has passed."""
        limit = time.monotonic() + min(planned.requeue_seconds or POLL_SECONDS, POLL_SECONDS)
        while time.monotonic() < limit and not self._interrupted and not self._reap(run):
            time.sleep(0.02)
        if observed.progress is not None:
            self._listener.progressed(run, observed.progress)

    def _reap(self, run: AlignmentRun) -> bool:
        ended = [name for name, child in self._children.items() if child.poll() is not None]
        for name in ended:
            child = self._children.pop(name)
            folder = next(f for f in self._state.attempts(run.metadata.name) if f.name == name)
            process.record_exit(folder, child.returncode)
        return bool(ended)

    def _stop(self, run: AlignmentRun, action: StopStage) -> None:
        """Tell an attempt to stop, once; kill it when it has not after a while. The plan asks until it is gone."""
        folder = self._state.attempt(run.metadata.name, action.stage, action.attempt)
        if action.name not in self._told:
            self._told[action.name] = time.monotonic()
            process.tell(folder, signal.SIGTERM)
        elif time.monotonic() - self._told[action.name] > process.STOP_SECONDS:
            process.tell(folder, signal.SIGKILL)

    def _stop_all(self) -> None:
        """Tell the children to save and end; kill those that do not."""
        for child in self._children.values():
            os.killpg(child.pid, signal.SIGTERM)
        if self._children:
            self._listener.stopping(tuple(self._children), process.STOP_SECONDS)
        for name, child in list(self._children.items()):
            try:
                child.wait(process.STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            run_name = name.rsplit("-", 2)[0]
            folder = next(f for f in self._state.attempts(run_name) if f.name == name)
            process.record_exit(folder, child.returncode)
        self._children.clear()


class _SignalsNoted:
    """SIGINT and SIGTERM set a flag instead of ending the process in the middle of a write."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        def handler(_signal: int, _frame: FrameType | None) -> None:
            self._note()

        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, handler)

    def __exit__(self, *_exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
