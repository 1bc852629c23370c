"""The frozen snapshot: ``train.parquet`` and ``holdout.parquet``, and reading them back.

Columns: pair_id (content address), prompt, chosen, rejected (the string, or messages as JSON where
``conversational``), conversational, kind (edit | preference), group, actor, cohort, time, origin
(Human | Synthetic), weight, source, line (where the row came from), event_ids, model (what wrote the responses) and
other_actors (who else took part). Rows are ordered by pair_id and written by one writer with fixed settings: the
same pairs give the same bytes.
Written by prepare; read by train (train side only), by evaluate (holdout only), by trace and erase.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from alignment_trainer.data.rows import Kind, Origin, Pair, Place, Text
from alignment_trainer.data.split import Side
from alignment_trainer.storage.folders import file_sha256

__all__ = ["MANIFEST", "Split", "described_files", "read_split", "write_split"]

MANIFEST: Final = "manifest.json"
"""What the snapshot was made of: sources, sets, funnel, the snapshot's own files."""

_WRITE_ROWS: Final = 4096
"""Part of the format: other row groups would be other bytes."""
_READ_ROWS: Final = 256
"""As many pairs are in memory at a time."""


def write_split(pairs: Iterable[Pair], folder: Path, side: Side) -> Path:
    """Write one side; returns the file. pairs: in the order of their ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{side}.parquet"
    with pq.ParquetWriter(
        path, _schema(), compression="zstd", write_statistics=False, store_schema=False
    ) as writer:
        source = iter(pairs)
        while rows := [_row(pair) for pair in islice(source, _WRITE_ROWS)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=_schema()))
    return path


def read_split(folder: Path, side: Side) -> Iterator[Pair]:
    """Pairs of one side, in the file's order. folder: a local copy of the snapshot."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(folder / f"{side}.parquet").iter_batches(batch_size=_READ_ROWS):
        for row in batch.to_pylist():
            yield _pair(row)


@dataclass(frozen=True)
class Split:
    """One side of a local copy of a snapshot; read from its file whenever it is iterated."""

    folder: Path
    side: Side

    def __iter__(self) -> Iterator[Pair]:
        return read_split(self.folder, self.side)


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of a snapshot's parquet files by name, as the manifest lists them."""
    return {
        path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.glob("*.parquet"))
    }


def _schema() -> Any:
    import pyarrow as pa

    text = (
        "pair_id",
        "prompt",
        "chosen",
        "rejected",
        "kind",
        "group",
        "actor",
        "cohort",
        "time",
        "origin",
        "source",
        "model",
    )
    columns = [(name, pa.string()) for name in text]
    columns += [
        ("conversational", pa.bool_()),
        ("weight", pa.float64()),
        ("line", pa.int64()),
        ("event_ids", pa.list_(pa.string())),
        ("other_actors", pa.list_(pa.string())),
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "pair_id": pair.pair_id,
        "prompt": _packed(pair.prompt),
        "chosen": _packed(pair.chosen),
        "rejected": _packed(pair.rejected),
        "conversational": pair.conversational,
        "kind": str(pair.kind),
        "group": pair.group,
        "actor": pair.actor,
        "cohort": pair.cohort,
        "time": pair.time,
        "origin": str(pair.origin),
        "weight": pair.weight,
        "source": pair.place.uri,
        "line": pair.place.line,
        "event_ids": [pair.id, *(i for i in pair.event_ids if i != pair.id)]
        if pair.id
        else list(pair.event_ids),
        "model": pair.model,
        "other_actors": list(pair.other_actors),
    }


def _pair(row: dict[str, Any]) -> Pair:
    unpack = json.loads if row["conversational"] else str
    ids = tuple(row["event_ids"])
    return Pair(
        id=ids[0] if ids else "",
        place=Place(row["source"], row["line"]),
        prompt=unpack(row["prompt"]),
        chosen=unpack(row["chosen"]),
        rejected=unpack(row["rejected"]),
        kind=Kind(row["kind"]),
        group=row["group"],
        actor=row["actor"],
        cohort=row["cohort"],
        time=row["time"],
        origin=Origin(row["origin"]),
        weight=row["weight"],
        event_ids=ids,
        # Snapshots of earlier versions of the product do not have these columns.
        model=row.get("model") or "",
        other_actors=tuple(row.get("other_actors") or ()),
    )


def _packed(text: Text) -> str:
    return text if isinstance(text, str) else json.dumps(text, sort_keys=True, ensure_ascii=False)
