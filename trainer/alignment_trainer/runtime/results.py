"""A stage's last word: its result in the artifacts, and the compact form in the termination log.

Order is what makes stages safe to kill: outputs first, then the result object, then the termination log. A
result that can be read is therefore complete, and a stage that finds one for the same input re-emits it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from alignment_api.stage import StageFailure, StageRequest, StageResult
from alignment_trainer.errors import StageError
from alignment_trainer.storage.store import ObjectStore

__all__ = ["TERMINATION_LOG", "existing_result", "pass_on", "say_failure", "say_result", "store_result"]

TERMINATION_LOG = "ALIGNMENT_TERMINATION_LOG"
"""Environment variable: file for the last word; absent: Kubernetes' own, where it exists."""
_KUBERNETES_LOG = Path("/dev/termination-log")


def existing_result(request: StageRequest, store: ObjectStore) -> StageResult | None:
    """The result of an earlier attempt at the same input, or None."""
    if store.stat(request.result_uri) is None:
        return None
    data, _ = store.get(request.result_uri)
    try:
        result = StageResult.model_validate_json(data)
    except ValidationError:
        return None  # written by another version of the product: do the work again
    return result if result.input_digest == request.input_digest else None


def store_result(request: StageRequest, result: StageResult, store: ObjectStore) -> None:
    """Write the result; to be called last, when every output is stored."""
    text = json.dumps(result.to_wire(), indent=2, ensure_ascii=False)
    store.put(request.result_uri, text.encode())


def say_result(result: StageResult) -> None:
    """Leave the compact result where the executor reads it."""
    _say(result.to_termination_message())


def say_failure(error: StageError) -> None:
    """Leave reason and message where the executor reads them."""
    _say(StageFailure(reason=error.reason[:64], message=error.message[:2048]).to_termination_message())


def pass_on(text: str) -> None:
    """Leave the last word of a process that this one started."""
    _say(text)


def _say(text: str) -> None:
    named = os.environ.get(TERMINATION_LOG)
    path = Path(named) if named else _KUBERNETES_LOG
    if path.exists():
        # In a pod the file is mounted: it can be written, and nothing can be put in its place.
        path.write_text(text, encoding="utf-8")
    elif named:
        temporary = Path(f"{path}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
