"""Checkpoints that survive the machine: uploaded when they are complete, fetched by the next attempt.

A checkpoint is a folder ``checkpoint-<step>`` under ``<run>/checkpoints/<input digest>/``; its SHA256SUMS is written
last, so one that can be fetched is whole. Older ones go when a newer one is complete, the last when the result is stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from alignment_api.stage import ArtifactRef, StageRequest
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import (
    SUMS,
    delete_folder,
    fetch_folder,
    read_sums,
    sums_digest,
    upload_folder,
)
from alignment_trainer.storage.store import ObjectStore

__all__ = ["Checkpoints", "forget", "kept", "step_of"]


def kept(request: StageRequest) -> str:
    """URI of the folder where the attempts at an input leave what the next one goes on from."""
    return uris.join(request.folder, "checkpoints", request.input_digest[-16:]) + "/"


def forget(request: StageRequest, store: Callable[[str], ObjectStore]) -> None:
    """Remove all that: the input's result is stored, and before it was, a killed attempt would have cost a training."""
    delete_folder(store(kept(request)), kept(request))


class Checkpoints:
    """Checkpoints of one stage's input."""

    def __init__(self, context: StageContext, phase: str) -> None:
        self._folder = uris.join(kept(context.request), phase) + "/"
        self._store = context.store(self._folder)
        self._scratch = context.scratch
        self._phase = phase

    def upload(self, checkpoint: Path, *, keep: set[str]) -> None:
        """Store a complete local checkpoint and drop the stored ones that are not in ``keep``."""
        upload_folder(checkpoint, uris.join(self._folder, checkpoint.name), self._store)
        for name in self._stored() - keep - {checkpoint.name}:
            delete_folder(self._store, uris.join(self._folder, name) + "/")

    def fetch(self, target: Path, *, partial: bool = False) -> Path | None:
        """Bring every complete checkpoint to ``target``; returns the newest, or None when there is none.

        partial: what is there was written by a node that does not hold whole checkpoints.
        """
        if partial:
            shutil.rmtree(target, ignore_errors=True)
        for name in self._stored():
            folder = uris.join(self._folder, name) + "/"
            sums = read_sums(self._store, folder)
            # One that a killed attempt was about to remove lacks files; transformers would start without them.
            if sums is not None and not all((target / name / file).is_file() for file in sums):
                self._bring(ArtifactRef(uri=folder, digest=sums_digest(sums)), target / name)
        stored = self._stored()
        for local in target.glob("checkpoint-*"):
            if local.name not in stored:
                shutil.rmtree(local)  # written by a killed attempt, perhaps not to its end
        return max(target.glob("checkpoint-*"), key=step_of, default=None)

    def _bring(self, ref: ArtifactRef, place: Path) -> None:
        """Put a stored checkpoint in its place, in one step: whoever finds it there may trust it."""
        downloads = self._scratch / "fetched"
        found = fetch_folder(ref, self._store, downloads)
        if not found.is_relative_to(downloads):  # the store's own folder: a store on this machine
            copy = downloads / place.name
            shutil.rmtree(copy, ignore_errors=True)
            found = shutil.copytree(found, copy)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        found.replace(place)

    def _stored(self) -> set[str]:
        parts = (uris.relative(info.uri, self._folder).split("/") for info in self._store.list(self._folder))
        return {part[0] for part in parts if len(part) == 2 and part[1] == SUMS}


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was made."""
    return int(checkpoint.name.rpartition("-")[2])
