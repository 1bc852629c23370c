"""Anchor and refusal sets: rows of named files. prepare reads them to pin them, evaluate to use them. Light: no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from alignment_api.spec import EvaluationSpec, NamedSet
from alignment_trainer.data.fields import text
from alignment_trainer.data.files import SourceFile
from alignment_trainer.data.reading import SourceRead
from alignment_trainer.data.rows import RowError, Text, plain
from alignment_trainer.errors import DataError, RequestError
from alignment_trainer.storage.store import ObjectStore

__all__ = ["Sets", "read_sets"]

_MOST_ROWS: Final = 2000


@dataclass(frozen=True)
class Sets:
    """Texts whose likelihood must not fall, and prompts that must stay refused, by name; and the files they came from."""

    anchors: dict[str, list[str]] = field(default_factory=dict)
    refusals: dict[str, list[Text]] = field(default_factory=dict)
    files: tuple[SourceRead, ...] = ()


def read_sets(spec: EvaluationSpec, stores: Callable[[str], ObjectStore]) -> Sets:
    """The first 2000 rows of each set; every file is read to its end, for its hash.

    Raises RequestError for a file that is missing, DataError, naming its place, for a row that has no text.
    """
    files: dict[str, SourceRead] = {}

    def rows(named: NamedSet, field: str) -> list[Text]:
        found, files[named.uri] = _read(named, field, stores(named.uri))
        return found

    anchors = {named.name: [plain(text) for text in rows(named, "text")] for named in spec.anchors}
    refusals = {named.name: rows(named, "prompt") for named in spec.refusals}
    return Sets(anchors, refusals, tuple(files[uri] for uri in sorted(files)))


def _read(named: NamedSet, field: str, store: ObjectStore) -> tuple[list[Text], SourceRead]:
    info = store.stat(named.uri)
    if info is None:
        raise RequestError(
            f"{named.uri}, the set {named.name}, does not exist; check the URI.", reason="ObjectMissing"
        )
    found: list[Text] = []
    with TemporaryDirectory() as scratch:
        file = SourceFile(info, store, Path(scratch), columns={field})
        for place, row in file.rows():
            if len(found) == _MOST_ROWS:
                continue
            try:
                value = text(row.get(field) if isinstance(row, dict) else None, field)
            except RowError:
                value = ""
            if not plain(value).strip():
                raise DataError(
                    f'{place}: a row of the set {named.name} needs a "{field}"; mend the line.',
                    reason="SetInvalid",
                )
            found.append(value)
    if not found:
        raise DataError(f"The set {named.name} ({named.uri}) has no rows; give it some.", reason="SetEmpty")
    return found, SourceRead(info.uri, info.size, info.etag, file.sha256)
