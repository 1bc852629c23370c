"""What a person watches while ``align run`` works: the story of the run, redrawn as it changes.

On a terminal the screen is redrawn; elsewhere each change is one line, so that a log stays readable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self

from alignment_api.conditions import ConditionType
from alignment_api.run import AlignmentRun
from alignment_api.status import ProgressStatus
from alignment_cli.embedded.executor import warn_of_stopping
from alignment_cli.output import Output, console, emit, say
from alignment_cli.view import run_story

__all__ = ["JsonView", "LineView", "TerminalView"]


class TerminalView:
    """Redraws the story; a context manager. Implements ``Listener``."""

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=console(), auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._live.stop()

    def changed(self, run: AlignmentRun) -> None:
        """Redraw."""
        self._live.update(run_story(run), refresh=True)

    def progressed(self, run: AlignmentRun, progress: ProgressStatus) -> None:
        """Redraw with fresh progress."""
        status = run.status.model_copy(update={"progress": progress})
        self.changed(run.model_copy(update={"status": status}))

    def stopping(self, attempts: Sequence[str], seconds: float) -> None:
        """Say so below what is shown."""
        warn_of_stopping(attempts, seconds)


class LineView:
    """One line a change; a context manager. Implements ``Listener``."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        return None

    def changed(self, run: AlignmentRun) -> None:
        """Say where the run stands, if that is news."""
        summary = run.status.condition(ConditionType.SUCCEEDED)
        if summary is not None:
            self._say("status", f"{run.metadata.name}: {summary.reason}. {summary.message}".rstrip())

    def progressed(self, run: AlignmentRun, progress: ProgressStatus) -> None:
        """Say every tenth of a stage."""
        if progress.steps:
            tenth = progress.percent // 10 * 10
            self._say(
                "progress", f"{run.metadata.name}: {progress.stage} {tenth} % {progress.activity}".rstrip()
            )

    def stopping(self, attempts: Sequence[str], seconds: float) -> None:
        """Say so in a line of its own."""
        warn_of_stopping(attempts, seconds)

    def _say(self, kind: str, line: str) -> None:
        if line != self._said.get(kind):
            self._said[kind] = line
            say(line)


class JsonView:
    """The whole resource at every change, for machines: JSON or YAML documents; a context manager."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        return None

    def changed(self, run: AlignmentRun) -> None:
        """Print the resource; YAML documents are told apart by ``---``."""
        if self._output is Output.YAML:
            sys.stdout.write("---\n")
        emit(run.to_wire(), self._output)
        sys.stdout.flush()

    def progressed(self, run: AlignmentRun, progress: ProgressStatus) -> None:
        """Nothing: progress is part of the resource."""
