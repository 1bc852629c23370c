"""How far a stage is: kept in memory, written to a file for ``align run``, served for the operator.

The time left is estimated from the pace since the current activity began, so that a fast warm start says
nothing about the pace of training.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignment_api.names import StageName
from alignment_api.status import ProgressStatus

__all__ = ["PROGRESS_FILE", "ProgressReporter"]

PROGRESS_FILE = "ALIGNMENT_PROGRESS_FILE"
"""Environment variable: file that ``align run`` reads; absent: none is written."""
_WRITE_SECONDS = 0.25
"""Shortest time between two writes of the file: a fast loop must not spend its time here."""


class ProgressReporter:
    """Implements ``Progress``; safe to call from any thread."""

    def __init__(
        self, stage: StageName, file: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stage = stage
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._activity_began = clock()
        self._first_step = 0
        self._written = float("-inf")
        self._state: tuple[int, int, str, dict[str, float]] = (0, 0, "", {})

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        """Report ``step`` of ``steps`` done."""
        with self._lock:
            _, _, activity_before, metrics_before = self._state
            if activity != activity_before:
                self._activity_began, self._first_step = self._clock(), step
            self._state = (step, steps, activity, metrics_before | (metrics or {}))
            now = self._clock()
            due = now - self._written >= _WRITE_SECONDS or step >= steps
            if self._file is not None and due:
                self._written = now
                with contextlib.suppress(
                    OSError
                ):  # a disk without room for a courtesy must not end a training
                    self._write(self._file)

    def snapshot(self) -> tuple[ProgressStatus, dict[str, float]]:
        """The present state and the latest value of each metric."""
        step, steps, activity, metrics = self._state
        percent = min(100, 100 * step // steps) if steps else 0
        return (
            ProgressStatus(
                stage=self._stage,
                step=step,
                steps=steps,
                percent=percent,
                eta_seconds=self._eta(step, steps),
                activity=activity[:128],
                updated_time=datetime.now(UTC),
            ),
            dict(metrics),
        )

    def to_wire(self) -> dict[str, Any]:
        """The present state as JSON for ``/progress`` and the progress file."""
        status, metrics = self.snapshot()
        return status.to_wire() | {"metrics": metrics}

    def _eta(self, step: int, steps: int) -> int | None:
        done = step - self._first_step
        if done <= 0 or steps <= step:
            return 0 if steps and step >= steps else None
        return round((self._clock() - self._activity_began) / done * (steps - step))

    def _write(self, file: Path) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self.to_wire()), encoding="utf-8")
        temporary.replace(file)
