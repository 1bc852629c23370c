"""What the evaluation reads from stores: models, anchor and refusal sets, the words of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alignment_trainer.data.rows import plain
from alignment_trainer.data.snapshot import MANIFEST, read_split
from alignment_trainer.data.split import Side
from alignment_trainer.errors import DataError
from alignment_trainer.evaluation.gathering import Seat
from alignment_trainer.evaluation.models import load_frozen
from alignment_trainer.evaluation.sets import Sets, read_sets
from alignment_trainer.evaluation.words import known_words
from alignment_trainer.models.fetch import fetch_model
from alignment_trainer.models.resolve import digest_cache
from alignment_trainer.runtime.collector import collector_at_rest
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.training.policy import load_tokenizer

__all__ = ["data_words", "load_seat", "load_sets"]


def load_seat(context: StageContext, pin: Any) -> Seat:
    """A pinned model, or a candidate, on the best device there is."""
    spec = context.request.spec
    local = fetch_model(pin, context.store, context.scratch / "models", cache=digest_cache(spec))
    with collector_at_rest():
        return Seat(load_frozen(local, spec.training.precision), load_tokenizer(local))


def load_sets(context: StageContext, snapshot: Path) -> Sets:
    """The named sets of the spec, as prepare read them. Raises DataError when a file is another one now."""
    sets = read_sets(context.request.spec.evaluation, context.store)
    manifest = json.loads((snapshot / MANIFEST).read_text(encoding="utf-8"))
    pinned = {file["uri"]: file["sha256"] for file in manifest["sets"]}
    for file in sets.files:
        if pinned.get(file.uri) != file.sha256:
            raise DataError(
                f"{file.uri} was changed while the run worked: prepare read sha256 {pinned.get(file.uri)}, there is "
                f"{file.sha256} now. Restore it, or start a new run (align clone).",
                reason="SetChanged",
            )
    return sets


def data_words(snapshot: Path) -> frozenset[str]:
    """Words of both sides of the snapshot: what the people and the deployed model write here. Words only, no pairs."""
    return frozenset().union(
        *(
            known_words(plain(text) for text in (pair.prompt, pair.chosen, pair.rejected))
            for side in Side
            for pair in read_split(snapshot, side)
        )
    )
