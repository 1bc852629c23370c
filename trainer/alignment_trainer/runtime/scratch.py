"""The local folder in which a stage works: models that were fetched, checkpoints, what is about to be stored.

Named after the run and the stage's input, so that a new attempt on the same machine finds what the last one left.
Holds people's text and weights in a place that other users of the machine may read: closed to everyone else.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from alignment_api.names import SHORT_UID
from alignment_api.stage import StageRequest
from alignment_trainer.errors import RequestError

__all__ = ["SCRATCH", "open_scratch", "remove_scratch"]

SCRATCH: Final = "ALIGNMENT_SCRATCH"
"""Environment variable: folder for models and checkpoints in work; absent: the system's temporary folder."""


def open_scratch(request: StageRequest) -> Path:
    """The folder for a request, made if it is not there. Raises RequestError NotWritable when somebody else made it."""
    folder = _root() / f"{_prefix(request.run.uid)}{request.stage}-{request.input_digest[-12:]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise RequestError(
            f"Scratch folder {folder} belongs to another user of this machine; remove it, or set {SCRATCH} to a folder "
            "of your own.",
            reason="NotWritable",
        )
    return folder


def remove_scratch(uid: str) -> None:
    """Remove what the stages of a run left on this machine. uid: the run's; nothing for one without."""
    if uid:
        for folder in _root().glob(f"{_prefix(uid)}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _root() -> Path:
    return Path(os.environ.get(SCRATCH) or tempfile.gettempdir())


def _prefix(uid: str) -> str:
    return f"alignment-{uid[:SHORT_UID]}-"
