"""Whether what a stage was given is still what it was, asked before the stage stores what it made of it.

An erasure rewrites snapshots and evaluations whenever it is asked for, also while a stage works or a person decides.
"""

from __future__ import annotations

from alignment_api.names import StageName
from alignment_trainer.errors import RequestError
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import read_sums, sums_digest

__all__ = ["pinned_sums", "require_unchanged"]


def pinned_sums(context: StageContext, stage: StageName) -> dict[str, str]:
    """sha256 by name of an earlier stage's output. Raises RequestError ArtifactMissing, or ArtifactChanged since it was pinned."""
    ref = context.request.inputs[stage]
    sums = read_sums(context.store(ref.uri), ref.uri)
    if sums is None or sums_digest(sums) != ref.digest:
        raise RequestError(
            f"{ref.uri} is {'gone or incomplete' if sums is None else 'not what it was at the start'}; was somebody erased "
            "meanwhile? Nothing is made of it; start a new run.",
            reason="ArtifactMissing" if sums is None else "ArtifactChanged",
        )
    return sums


def require_unchanged(context: StageContext, *stages: StageName) -> None:
    """As :func:`pinned_sums` of each of these stages, for what it raises."""
    for stage in stages:
        pinned_sums(context, stage)
