"""What a stage is given: its request, the stores, a scratch folder, progress, and the wish to stop.

Built once by :mod:`alignment_trainer.main` (or by a test) and handed to ``run(context)`` of a stage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from alignment_api.stage import StageRequest
from alignment_trainer.errors import Stopped
from alignment_trainer.runtime.crew import Crew
from alignment_trainer.storage.store import ObjectStore

__all__ = ["Progress", "StageContext"]


class Progress(Protocol):
    """Where a stage says how far it is; read by ``/progress``, ``/metrics`` and the terminal bar."""

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        """Report ``step`` of ``steps`` done. activity: a few words; metrics: latest values by metric name."""
        ...


@dataclass(frozen=True)
class StageContext:
    """Everything a stage may touch.

    request: the parsed request; immutable.
    store: gives the store for a URI (credentials and endpoint from the request's spec); cached.
    scratch: an empty-or-resumed local folder of this run and stage; may be lost at any moment. All processes of a node
        share it.
    crew: the processes that carry out the stage together, and which one this is.
    """

    request: StageRequest
    store: Callable[[str], ObjectStore]
    scratch: Path
    progress: Progress
    stop: threading.Event = field(default_factory=threading.Event)
    crew: Crew = field(default_factory=Crew)

    def raise_if_stopped(self) -> None:
        """Raise :class:`Stopped` when SIGTERM came; call between units of work that are cheap to repeat."""
        if self.stop.is_set():
            raise Stopped("Stopped on request; the next attempt goes on from the last saved state.")
