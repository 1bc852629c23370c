"""Which snapshots, candidates and published versions hold a subject: found by reading what runs have stored.

Called by ``align trace`` and by ``erase``. A model is affected when a pair of the subject was on the train side of its
run, or when the model that its run went on from is affected. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import Field, ValidationError

from alignment_api.base import StatusModel
from alignment_api.names import StageName
from alignment_api.stage import StageResult
from alignment_trainer.data.split import Side
from alignment_trainer.models.aliases import versions
from alignment_trainer.publishing.retention import run_folders
from alignment_trainer.storage import uris
from alignment_trainer.storage.ranges import RangedObject
from alignment_trainer.storage.store import ObjectStore

__all__ = ["Kind", "RunTrace", "Sighting", "Subject", "Trace", "trace"]

StoreOf = Callable[[str], ObjectStore]
_COLUMNS: Final = ("pair_id", "group", "actor", "other_actors", "event_ids", "source", "line")
_BATCH_ROWS: Final = 16384


class Kind(StrEnum):
    """What a name may be the name of."""

    ID = "id"
    GROUP = "group"
    ACTOR = "actor"


@dataclass(frozen=True)
class Subject:
    """Names to look for, each as any of ``kinds``."""

    names: frozenset[str]
    kinds: frozenset[Kind] = frozenset(Kind)

    def match(self, row: dict[str, Any]) -> tuple[Kind, ...]:
        """As what the subject takes part in a pair of a snapshot; empty when it does not."""
        values = {
            Kind.ID: {row["pair_id"], *row["event_ids"]},
            Kind.GROUP: {row["group"]},
            Kind.ACTOR: {row["actor"], *(row.get("other_actors") or ())},
        }
        return tuple(kind for kind in Kind if kind in self.kinds and values[kind] & self.names)


class Sighting(StatusModel):
    """One pair of the subject in a snapshot."""

    side: Side
    pair_id: str
    matched: tuple[Kind, ...]
    source: str
    line: int
    event_ids: tuple[str, ...]


class RunTrace(StatusModel):
    """What one run holds of the subject, and what came of it.

    inherited: version that this run's model went on from, where that one is affected. published: version folder.
    """

    run: str
    snapshot: str
    pairs: tuple[Sighting, ...] = ()
    inherited: str | None = None
    candidate: str | None = None
    published: str | None = None

    @property
    def affected(self) -> bool:
        """True when the run's model learned from the subject."""
        return self.inherited is not None or any(pair.side is Side.TRAIN for pair in self.pairs)


class Trace(StatusModel):
    """The answer. runs: those that hold the subject or inherit it. unknown: versions whose snapshot is gone."""

    runs: tuple[RunTrace, ...] = ()
    searched: int = Field(default=0, description="Snapshots that were looked through.")
    unknown: tuple[str, ...] = ()

    @property
    def affected_versions(self) -> tuple[str, ...]:
        """Published versions that learned from the subject."""
        return tuple(run.published for run in self.runs if run.affected and run.published is not None)


def trace(
    artifacts_uri: str, subject: Subject, stores: StoreOf, *, publish_uris: tuple[str, ...] = ()
) -> Trace:
    """Look through all runs below ``artifacts``. publish_uris: further places whose versions must be accounted for."""
    found: list[RunTrace] = []
    models: dict[str, str] = {}
    known: set[str] = set()
    searched = 0
    places = set(publish_uris)
    for run in run_folders(artifacts_uri, stores):
        prepare, train, publish = (
            _result(run.uri, stage, stores)
            for stage in (StageName.PREPARE, StageName.TRAIN, StageName.PUBLISH)
        )
        published = publish.published if publish is not None else None
        pins = prepare.pins if prepare is not None else None
        snapshot = uris.join(run.uri, "data") + "/"
        pairs = tuple(_sightings(snapshot, subject, stores))
        present = any(stores(snapshot).stat(f"{snapshot}{side}.parquet") for side in Side)
        searched += present
        if published is not None:
            places.add(uris.parent(uris.parent(published.uri)))
            if present:
                known.add(published.uri)
        models[run.uri] = pins.model.uri if pins is not None else ""
        found.append(
            RunTrace(
                run=run.uri,
                snapshot=snapshot,
                pairs=pairs,
                candidate=train.output.uri if train is not None else None,
                published=published.uri if published is not None else None,
            )
        )
    every = {_version(place, name) for place in places for name in versions(place, stores(place))}
    runs = _inherited(found, models)
    return Trace(
        runs=tuple(run for run in runs if run.pairs or run.inherited),
        searched=searched,
        unknown=tuple(sorted(every - known)),
    )


def _inherited(runs: list[RunTrace], models: dict[str, str]) -> list[RunTrace]:
    """Runs with what they inherit, generation by generation."""
    while True:
        affected = {run.published for run in runs if run.affected and run.published is not None}
        changed = [
            run.model_copy(update={"inherited": models[run.run]})
            if run.inherited is None and models[run.run] in affected
            else run
            for run in runs
        ]
        if changed == runs:
            return runs
        runs = changed


def _sightings(snapshot: str, subject: Subject, stores: StoreOf) -> Iterator[Sighting]:
    for side in Side:
        for row in snapshot_rows(f"{snapshot}{side}.parquet", stores):
            if matched := subject.match(row):
                yield Sighting(
                    side=side,
                    pair_id=row["pair_id"],
                    matched=matched,
                    source=row["source"],
                    line=row["line"],
                    event_ids=tuple(row["event_ids"]),
                )


def snapshot_rows(uri: str, stores: StoreOf) -> Iterator[dict[str, Any]]:
    """Who takes part in each pair of one side of a snapshot; texts are not read. Nothing where there is no file."""
    import pyarrow.parquet as pq

    store = stores(uri)
    info = store.stat(uri)
    if info is None:
        return
    file = pq.ParquetFile(RangedObject(info, store))
    columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
        yield from batch.to_pylist()


def _result(run: str, stage: StageName, stores: StoreOf) -> StageResult | None:
    uri = uris.join(run, "results", f"{stage}.json")
    store = stores(uri)
    if store.stat(uri) is None:
        return None
    try:
        return StageResult.model_validate_json(store.get(uri)[0])
    except ValidationError:
        return None  # written by another version of the product


def _version(place: str, name: str) -> str:
    return uris.join(place, "versions", name) + "/"
