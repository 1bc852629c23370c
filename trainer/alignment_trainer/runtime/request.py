"""Reads the stage request that a process was given."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from alignment_api.names import StageName
from alignment_api.stage import StageRequest
from alignment_trainer.errors import RequestError

__all__ = ["read_request"]


def read_request(path: Path, stage: StageName) -> StageRequest:
    """The request in ``path``, for ``stage``. Raises RequestError naming the file and the field."""
    try:
        request = StageRequest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RequestError(
            f"Request file {path} cannot be read: {error.strerror}; give a readable file."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RequestError(
            f"Request file {path}: {where}: {first['msg']}; write it as the stage contract says."
        ) from error
    if request.stage is not stage:
        raise RequestError(
            f"Request file {path} is for stage {request.stage}, not {stage}; start that stage."
        )
    return request
