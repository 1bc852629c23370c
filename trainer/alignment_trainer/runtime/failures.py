"""What an exception means to a person: exit code, reason, one sentence. Called by :mod:`alignment_trainer.main` alone.

Texts of exceptions that are not ours are never passed on: they may quote prompts, responses or credentials. They
stand in the log, with their traceback, which does not leave the machine or the cluster.
"""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import Final

from alignment_api.stage import PEER_LOST
from alignment_trainer.errors import RequestError, StageError, TemporaryError
from alignment_trainer.runtime.scratch import SCRATCH

__all__ = ["Defect", "OutOfMemory", "explain"]

_PACKAGE: Final = Path(__file__).parent.parent
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_PEERS_GONE: Final = frozenset({"DistBackendError", "DistNetworkError", "DistStoreError"})
"""torch's words for a process that is not there any more; gloo's is a RuntimeError that names the file it comes from."""
_GLOO: Final = "gloo/transport/"


class Defect(StageError):
    """Our own mistake, or a library's. Counted, tried again, to be reported."""

    default_reason = "Defect"


class OutOfMemory(StageError):
    """The machine's or the accelerator's memory did not do. Counted and tried again: a neighbour may have used it."""

    default_reason = "OutOfMemory"


def explain(error: Exception) -> StageError:
    """The stage error that ``error`` is, or amounts to."""
    if isinstance(error, StageError):
        return error
    # By name: torch, whose error it is, is not imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(
            f"Out of memory {_place(error)}; lower training.pairsPerStep, training.maxLength or "
            "evaluation.generation.maxNewTokens, use training.lora, or give the stage more memory."
        )
    if type(error).__name__ in _PEERS_GONE or (isinstance(error, RuntimeError) and _GLOO in str(error)):
        return TemporaryError(
            f"The other processes of the training were lost ({type(error).__name__} {_place(error)}): one of them ended, and "
            "the log of its pod has the cause; or the network between the pods failed. It is tried again.",
            reason=PEER_LOST,
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _disk_trouble(error)
    return Defect(
        f"{type(error).__name__} {_place(error)}: a defect of the product, or of a library. The stage's log has the "
        "traceback; please report it."
    )


def _disk_trouble(error: OSError) -> StageError:
    """Trouble with this machine's disk or network; storage modules have said theirs already."""
    where = error.filename or "the scratch folder"
    if error.errno in _FULL:
        return TemporaryError(
            f"No space left while writing {where}; free some, or set {SCRATCH} to a larger disk.",
            reason="DiskFull",
        )
    if error.errno in _CLOSED:
        return RequestError(
            f"{where} cannot be written or read ({error.strerror}); set {SCRATCH} to a folder that can.",
            reason="NotWritable",
        )
    return TemporaryError(
        f"{where}: {error.strerror or error.errno}; it is tried again.", reason="SystemTrouble"
    )


def _place(error: Exception) -> str:
    """Where in our code it came up: ``at training/stage.py:12``."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not own:
        return "outside of our code"
    return f"at {Path(own[-1].filename).relative_to(_PACKAGE).as_posix()}:{own[-1].lineno}"
