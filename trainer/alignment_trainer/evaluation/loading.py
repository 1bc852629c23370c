"""What the evaluation reads from stores: models, anchor and refusal sets, the words of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alignment_api.spec import NamedSet
from alignment_trainer.data.files import read_rows
from alignment_trainer.data.rows import Text, plain
from alignment_trainer.data.snapshot import read_split
from alignment_trainer.data.split import Side
from alignment_trainer.errors import DataError
from alignment_trainer.evaluation.gathering import Seat, Sets
from alignment_trainer.evaluation.models import load_frozen
from alignment_trainer.evaluation.words import known_words
from alignment_trainer.models.fetch import fetch_model
from alignment_trainer.models.resolve import digest_cache
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.training.policy import load_tokenizer

__all__ = ["data_words", "load_seat", "load_sets"]

_MOST_ROWS: Final = 2000


def load_seat(context: StageContext, pin: Any) -> Seat:
    """A pinned model, or a candidate, on the best device there is."""
    spec = context.request.spec
    local = fetch_model(pin, context.store, context.scratch / "models", cache=digest_cache(spec))
    return Seat(load_frozen(local, spec.training.precision), load_tokenizer(local))


def load_sets(context: StageContext) -> Sets:
    """The named sets of the spec. Raises DataError for a row that has no text, naming its place."""
    spec = context.request.spec.evaluation
    return Sets(
        anchors={
            anchor.name: [plain(text) for text in _rows(context, anchor, "text")] for anchor in spec.anchors
        },
        refusals={refusal.name: _rows(context, refusal, "prompt") for refusal in spec.refusals},
    )


def _rows(context: StageContext, named: NamedSet, field: str) -> list[Text]:
    """At most 2000 rows of a set."""
    found: list[Text] = []
    for place, row in read_rows(named.uri, context.store(named.uri)):
        value = row.get(field) if isinstance(row, dict) else None
        if not isinstance(value, str | list) or not plain(value).strip():
            raise DataError(
                f'{place}: a row of the set {named.name} needs a "{field}"; mend the line.',
                reason="SetInvalid",
            )
        found.append(value)
        if len(found) == _MOST_ROWS:
            break
    if not found:
        raise DataError(f"The set {named.name} ({named.uri}) has no rows; give it some.", reason="SetEmpty")
    return found


def data_words(snapshot: Path) -> frozenset[str]:
    """Words of both sides of the snapshot: what the people and the deployed model write here. Words only, no pairs."""
    return frozenset().union(
        *(
            known_words(plain(text) for text in (pair.prompt, pair.chosen, pair.rejected))
            for side in Side
            for pair in read_split(snapshot, side)
        )
    )
