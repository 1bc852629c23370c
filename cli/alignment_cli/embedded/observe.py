"""From files and processes to what the plan reads.

An attempt of which nothing is known but that it ran (the machine or ``align run`` died with it) counts as
disrupted: it costs nothing, and the next attempt goes on from the last checkpoint.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from alignment_api.exitcodes import StageExit
from alignment_api.run import AlignmentRun
from alignment_api.stage import StageFailure, StageResult, read_termination_message
from alignment_api.status import ProgressStatus
from alignment_cli.embedded.process import alive
from alignment_cli.embedded.state import AttemptFolder, State
from alignment_operator.core.observed import Attempt, AttemptState, Observed

__all__ = ["observe", "progress_of"]


def observe(state: State, run: AlignmentRun) -> Observed:
    """What there is of a run now."""
    attempts = [
        attempt
        for folder in state.attempts(run.metadata.name)
        if (attempt := _attempt(folder, run)) is not None
    ]
    running = [folder for folder in state.attempts(run.metadata.name) if alive(folder)]
    return Observed(run=run, attempts=tuple(attempts), progress=progress_of(running[-1]) if running else None)


def progress_of(folder: AttemptFolder) -> ProgressStatus | None:
    """The newest word of a running stage on how far it is."""
    wire = folder.read(folder.progress)
    try:
        return ProgressStatus.model_validate(wire) if wire is not None else None
    except ValidationError:
        return None


def _attempt(folder: AttemptFolder, run: AlignmentRun) -> Attempt | None:
    request = folder.read_request()
    if request is None or request.run.uid != run.metadata.uid:
        return None
    started = _time(folder.process) or _time(folder.request)
    if alive(folder):
        return Attempt(request.stage, request.attempt, folder.name, AttemptState.RUNNING, started=started)
    last_word = _last_word(folder)
    exit_record = folder.read(folder.exit)
    code = int(exit_record["exitCode"]) if exit_record is not None else None
    ended = _time(folder.exit) or _time(folder.termination) or started
    done = isinstance(last_word, StageResult) and code in (0, None)
    return Attempt(
        stage=request.stage,
        number=request.attempt,
        name=folder.name,
        state=AttemptState.SUCCEEDED if done or code == 0 else AttemptState.FAILED,
        started=started,
        ended=ended,
        result=last_word if isinstance(last_word, StageResult) else None,
        failure=last_word if isinstance(last_word, StageFailure) else None,
        exit_code=0 if done else code,
        disrupted=not done and code is None,
        by_hand=not done and code in (None, StageExit.STOPPED),
        message=f"Its output: {folder.output}",
    )


def _last_word(folder: AttemptFolder) -> StageResult | StageFailure | None:
    try:
        return read_termination_message(folder.termination.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None


def _time(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
