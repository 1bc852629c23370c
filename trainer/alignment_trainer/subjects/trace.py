"""Which snapshots, candidates and published versions hold a subject: found by reading what runs have stored.

Called by ``align trace`` and by ``erase``. A model is affected when a pair of the subject is, or before an erasure was, on
the train side of its run, or when the model that its run went on from is affected. Changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import Field, ValidationError

from alignment_api.base import StatusModel
from alignment_api.names import StageName
from alignment_api.stage import StageResult
from alignment_trainer.data.split import Side
from alignment_trainer.errors import StageError
from alignment_trainer.models.aliases import versions
from alignment_trainer.publishing.retention import run_folders
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import list_folder
from alignment_trainer.storage.ranges import RangedObject
from alignment_trainer.storage.store import ObjectStore
from alignment_trainer.subjects.erased import read_erased
from alignment_trainer.subjects.subject import Kind, Subject, mark

__all__ = ["RunTrace", "Sighting", "Trace", "snapshot_rows", "trace"]

StoreOf = Callable[[str], ObjectStore]
_COLUMNS: Final = ("pair_id", "group", "actor", "other_actors", "event_ids", "source", "line")
_BATCH_ROWS: Final = 16384


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

    erased_train, erased_holdout: pairs that erasures have taken out. inherited: model that this run's model went on
    from, where that one is affected. published: version folder.
    """

    run: str
    snapshot: str
    pairs: tuple[Sighting, ...] = ()
    erased_train: int = 0
    erased_holdout: int = 0
    inherited: str | None = None
    candidate: str | None = None
    published: str | None = None

    @property
    def learned(self) -> bool:
        """True when this very run trained on the subject."""
        return self.erased_train > 0 or any(pair.side is Side.TRAIN for pair in self.pairs)

    @property
    def affected(self) -> bool:
        """True when the run's model learned from the subject, in this run or before."""
        return self.inherited is not None or self.learned

    @property
    def concerned(self) -> bool:
        """True when the answer must name the run."""
        return bool(self.pairs or self.erased_holdout) or self.affected

    @property
    def models(self) -> frozenset[str]:
        """What another run may have gone on from."""
        return frozenset(uri.rstrip("/") for uri in (self.candidate, self.published) if uri is not None)


class Trace(StatusModel):
    """The answer. runs: those that hold the subject, held it or inherit it. unknown: versions that cannot be answered for."""

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
    """Look through all runs below ``artifacts``. publish_uris: further places whose versions must be accounted for.

    A version is unknown when its run's snapshot is gone, or when it went on from a model of which that is true.
    """
    found: dict[str, RunTrace] = {}
    parents: dict[str, str] = {}
    searched: set[str] = set()
    for run in run_folders(artifacts_uri, stores):
        found[run.uri], parents[run.uri], present = _of_run(run.uri, subject, stores)
        if present:
            searched.add(run.uri)
    snapshots = len(searched)
    shown = {run.published: uri for uri, run in found.items() if run.published is not None}
    places = {*publish_uris, *(uris.parent(uris.parent(uri)) for uri in shown)}
    every = {
        uris.join(place, "versions", name) + "/"
        for place in places
        for name in versions(place, stores(place))
    }
    for uri in sorted(every):
        own = shown.get(uri)
        if own is not None:
            # Its run's results may be of another version of the product.
            parents[own] = parents[own] or _of_version(uri, stores)[1]
            continue
        # Its run's folder went with retention, or publish was stopped before it stored its result, or it is a copy.
        gone, parent = _of_version(uri, stores)
        known = found.get(gone.run, gone)
        key = gone.run if known.published is None else uri
        found[key] = known.model_copy(update={"published": uri})
        parents[key] = parents.get(gone.run) or parent
        if gone.run in searched:
            searched.add(key)

    models = {uri for run in found.values() for uri in run.models}
    ours = f"{artifacts_uri.rstrip('/')}/runs/"
    lost = {
        uri
        for uri in set(parents.values())
        if uri.rstrip("/") not in models
        and (uri.startswith(ours) or ("/versions/" in uri and not _foreign(uri, stores)))
    }
    affected = _descended({uri for uri, run in found.items() if run.learned}, found, parents)
    # A version without a parent is one whose history cannot be read.
    blind = {uri for uri, run in found.items() if uri not in searched or (run.published and not parents[uri])}
    open_ = _descended({uri for uri in found if uri in blind or parents[uri] in lost}, found, parents)
    tainted = {uri for run in affected for uri in found[run].models}
    runs = [
        run.model_copy(update={"inherited": parents[uri]}) if parents[uri].rstrip("/") in tainted else run
        for uri, run in found.items()
    ]
    return Trace(
        runs=tuple(run for run in runs if run.concerned),
        searched=snapshots,
        unknown=tuple(sorted(v for uri in open_ - affected if (v := found[uri].published) in every)),
    )


def _descended(start: Iterable[str], found: Mapping[str, RunTrace], parents: Mapping[str, str]) -> set[str]:
    """These runs, and those whose model went on from one of theirs, generation by generation."""
    reached = set(start)
    while True:
        models = {uri for run in reached for uri in found[run].models}
        more = {run for run, parent in parents.items() if parent.rstrip("/") in models} - reached
        if not more:
            return reached
        reached |= more


def _of_run(run: str, subject: Subject, stores: StoreOf) -> tuple[RunTrace, str, bool]:
    """What a run holds, the model it went on from, and whether it has a snapshot at all."""
    prepare, train, publish = (
        _result(run, stage, stores) for stage in (StageName.PREPARE, StageName.TRAIN, StageName.PUBLISH)
    )
    published = publish.published if publish is not None else None
    pins = prepare.pins if prepare is not None else None
    snapshot = uris.join(run, "data") + "/"
    pairs = tuple(_sightings(snapshot, subject, stores))
    # An erasure that was stopped has noted pairs that are there still.
    here = {mark(Kind.ID, pair.pair_id) for pair in pairs}
    erased = [
        pair.side
        for pair in read_erased(snapshot, stores)
        if pair.marks & subject.marks and not pair.marks & here
    ]
    found = RunTrace(
        run=run,
        snapshot=snapshot,
        pairs=pairs,
        erased_train=erased.count(Side.TRAIN),
        erased_holdout=erased.count(Side.HOLDOUT),
        candidate=train.output.uri if train is not None else None,
        published=published.uri if published is not None else None,
    )
    present = any(stores(snapshot).stat(f"{snapshot}{side}.parquet") for side in Side)
    return found, pins.model.uri if pins is not None else "", present


def _of_version(version: str, stores: StoreOf) -> tuple[RunTrace, str]:
    """The run that a version came from and the model which that went on from, by the version's own lineage."""
    uri = uris.join(version, "lineage.json")
    store = stores(uri)
    try:
        lineage = json.loads(store.get(uri)[0]) if store.stat(uri) is not None else {}
        inputs = lineage["inputs"]
        run = uris.parent(inputs[StageName.PREPARE]["uri"])
        candidate, parent = inputs[StageName.TRAIN]["uri"], lineage["pins"]["model"]["uri"]
    except (ValueError, KeyError, TypeError):  # put there by hand
        return RunTrace(run=version, snapshot=""), ""
    return RunTrace(run=run, snapshot=uris.join(run, "data") + "/", candidate=candidate), parent


def _foreign(model: str, stores: StoreOf) -> bool:
    """True for a model that is there and was not published by a run."""
    try:
        names = list_folder(stores(model), model)
    except StageError:
        return False  # a place that cannot be reached from here
    return bool(names) and "lineage.json" not in names


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
