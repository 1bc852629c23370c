"""Stage prepare: pins what moves, reads all sources, keeps what may be used, splits it, freezes the snapshot."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignment_api.spec import DataSpec, Origin
from alignment_api.stage import StageResult
from alignment_api.status import Funnel, Pins, SourcesPin
from alignment_trainer.data import rows as model
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.clean import deduplicated, normalised, usable, without_contradictions
from alignment_trainer.data.exclusions import Exclusions, read_exclusions
from alignment_trainer.data.files import read_rows
from alignment_trainer.data.formats import read_row
from alignment_trainer.data.lengths import ModelText, fits
from alignment_trainer.data.pairing import pair_events
from alignment_trainer.data.rows import Event, Pair, RowError
from alignment_trainer.data.snapshot import write_split
from alignment_trainer.data.split import Side, group_key, shared_conversations, side_of
from alignment_trainer.errors import DataError
from alignment_trainer.models.fetch import read_model_file
from alignment_trainer.models.resolve import ModelPins, pin_models
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import object_sha256, upload_folder
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.store import ObjectInfo

__all__ = ["run"]

_POLL_ROWS = 4096


def run(context: StageContext) -> StageResult:
    """Carry out prepare. Raises RequestError, DataError (too few pairs, too many invalid rows, a leak)."""
    started = datetime.now(UTC)
    spec = context.request.spec
    # A target that cannot be written, or a store that ignores conditions, is found out now and not after training.
    require_conditional_puts(context.store(spec.publish.uri), spec.publish.uri)
    pins = pin_models(spec, context.store)
    folder = context.scratch / "data"
    folder.mkdir(parents=True, exist_ok=True)
    sources = _list_sources(context, spec.data)
    exclusions = read_exclusions([e.uri for e in spec.data.exclusions], context.store)
    account = Account(folder / "quarantine.jsonl")
    pairs = _read_pairs(context, sources, exclusions, account)
    _refuse_invalid(account, spec.data)
    text = ModelText.load(
        lambda name: read_model_file(pins.model, name, context.store, context.scratch), pins.model.uri
    )
    kept = list(
        usable((normalised(pair) for pair in pairs), fits(text, spec.training.max_length), account.drop)
    )
    kept = without_contradictions(deduplicated(kept, account.drop), spec.data.contradictions, account.drop)
    sides = _split(kept, spec.data, account)
    account.close()
    funnel = _funnel(account, sides, spec.data)
    _refuse_too_few(funnel, spec.data)
    for side, members in sides.items():
        write_split(members, folder, side)
    source_list = _source_list(context, sources)
    _write_manifest(folder, source_list, funnel, exclusions, pins, spec.data)
    output = upload_folder(folder, f"{context.request.folder}data/", context.store(context.request.folder))
    return StageResult(
        stage=context.request.stage,
        input_digest=context.request.input_digest,
        output=output,
        started_time=started,
        finished_time=datetime.now(UTC),
        pins=_pins(pins, output.uri, source_list),
        data=funnel,
    )


def _list_sources(context: StageContext, spec: DataSpec) -> list[tuple[ObjectInfo, int]]:
    """Every file once, with the index of the first source that names it, in the order of their URIs."""
    found: dict[str, tuple[ObjectInfo, int]] = {}
    for index, source in enumerate(spec.sources):
        files = list(context.store(source.uri).list(source.uri))
        if not files:
            raise DataError(
                f"spec.data.sources[{index}] ({source.uri}) matches no object; check the URI.",
                reason="SourceEmpty",
            )
        for info in files:
            found.setdefault(info.uri, (info, index))
    return [found[uri] for uri in sorted(found)]


def _read_pairs(
    context: StageContext, sources: list[tuple[ObjectInfo, int]], exclusions: Exclusions, account: Account
) -> list[Pair]:
    pairs: list[Pair] = []
    events: list[Event] = []
    for number, (info, index) in enumerate(sources):
        context.progress.update(number, len(sources), activity="reading sources")
        for row in _rows_of(context, info, index, account):
            if exclusions.covers(row):
                account.count("excluded", 1)
            elif isinstance(row, Event):
                events.append(row)
            else:
                pairs.append(row)
    account.events = len(events)
    paired = pair_events(events, context.request.spec.data.events)
    for reason, count in paired.counts.items():
        account.count(reason, count)
    return pairs + paired.pairs


def _rows_of(context: StageContext, info: ObjectInfo, index: int, account: Account) -> Iterator[Pair | Event]:
    source = context.request.spec.data.sources[index]
    for place, row in read_rows(info.uri, context.store(info.uri)):
        account.rows += 1
        if account.rows % _POLL_ROWS == 0:
            context.raise_if_stopped()
        try:
            if isinstance(row, RowError):
                raise row
            parsed = read_row(row, place, source.format)
        except RowError as error:
            account.refuse(place, error)
            continue
        # A source that is declared synthetic stays so, whatever its rows say of themselves.
        yield replace(parsed, origin=model.Origin.SYNTHETIC) if source.origin is Origin.SYNTHETIC else parsed


def _split(pairs: list[Pair], spec: DataSpec, account: Account) -> dict[Side, list[Pair]]:
    """Assign sides; then enforce what the holdout must be: human, and without a prompt that is trained on."""
    sides: dict[Side, list[Pair]] = {Side.TRAIN: [], Side.HOLDOUT: []}
    for pair in pairs:
        side = side_of(group_key(pair, spec.holdout), spec.holdout)
        if side is Side.HOLDOUT and pair.origin is model.Origin.SYNTHETIC:
            account.drop(
                pair,
                "syntheticHoldout",
                "synthetic pairs never enter the holdout, and its groups are not trained on",
            )
        else:
            sides[side].append(pair)
    shared = shared_conversations(sides[Side.TRAIN], sides[Side.HOLDOUT])
    train = []
    for pair in sides[Side.TRAIN]:
        if pair.conversation in shared:
            account.drop(pair, "leak", "its prompt is also in a group that is held out")
        else:
            train.append(pair)
    sides[Side.TRAIN] = _capped(train, spec, account)
    if shared_conversations(sides[Side.TRAIN], sides[Side.HOLDOUT]):
        raise DataError(
            "The split leaks: a prompt is on both sides after the leak was removed. This is a defect.",
            reason="SplitLeaks",
        )
    return sides


def _capped(train: list[Pair], spec: DataSpec, account: Account) -> list[Pair]:
    """At most ``maximumSyntheticFraction`` of the train side synthetic, by a sample seeded with the split's salt."""
    human = [pair for pair in train if pair.origin is model.Origin.HUMAN]
    synthetic = [pair for pair in train if pair.origin is model.Origin.SYNTHETIC]
    share = spec.maximum_synthetic_fraction
    allowed = len(synthetic) if share >= 1 else min(len(synthetic), int(len(human) * share / (1 - share)))
    chosen = set(random.Random(spec.holdout.salt).sample(range(len(synthetic)), allowed))
    for index, pair in enumerate(synthetic):
        if index not in chosen:
            account.drop(pair, "syntheticCap", "more synthetic pairs than maximumSyntheticFraction allows")
    return human + [pair for index, pair in enumerate(synthetic) if index in chosen]


def _funnel(account: Account, sides: dict[Side, list[Pair]], spec: DataSpec) -> Funnel:
    dropped = dict(account.dropped)
    train, holdout = sides[Side.TRAIN], sides[Side.HOLDOUT]
    held_groups = {group_key(pair, spec.holdout) for pair in holdout}
    return Funnel(
        rows=account.rows,
        events=account.events,
        pairs=len(train) + len(holdout),
        train=len(train),
        holdout=len(holdout),
        groups=len({group_key(pair, spec.holdout) for pair in train} | held_groups),
        holdout_groups=len(held_groups),
        invalid=account.invalid.total(),
        excluded=dropped.pop("excluded", 0),
        duplicates=dropped.pop("duplicate", 0),
        contradictions=dropped.pop("contradiction", 0),
        unpaired=dropped.pop("unpaired", 0),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        synthetic=sum(pair.origin is model.Origin.SYNTHETIC for pair in train),
    )


def _refuse_invalid(account: Account, spec: DataSpec) -> None:
    invalid, limit = account.invalid.total(), spec.maximum_invalid_fraction
    if account.rows == 0:
        raise DataError("The sources hold no rows at all; check spec.data.sources.", reason="SourceEmpty")
    if invalid > limit * account.rows:
        raise DataError(
            f"{invalid} of {account.rows} rows are invalid, more than maximumInvalidFraction {limit:g} allows: "
            f"{account.worst()}. Mend them (align data check lists all), or raise the limit in a new run.",
            reason="TooManyInvalid",
        )


def _refuse_too_few(funnel: Funnel, spec: DataSpec) -> None:
    if funnel.pairs < spec.minimum_pairs:
        lost = funnel.rows - funnel.pairs
        raise DataError(
            f"{funnel.pairs} usable pairs from {funnel.rows} rows ({lost} rows made none), data.minimumPairs is "
            f"{spec.minimum_pairs}; collect more, or lower it in a new run.",
            reason="TooFewPairs",
        )
    if not funnel.train or not funnel.holdout:
        empty = "train side" if not funnel.train else "holdout"
        raise DataError(
            f"The {empty} is empty: {funnel.groups} groups at holdout.fraction {spec.holdout.fraction:g}. Give rows a group "
            "that varies, or another fraction.",
            reason="TooFewPairs",
        )


def _source_list(context: StageContext, sources: list[tuple[ObjectInfo, int]]) -> list[dict[str, Any]]:
    return [
        {
            "uri": info.uri,
            "size": info.size,
            "etag": info.etag,
            "sha256": object_sha256(context.store(info.uri), info.uri),
        }
        for info, _ in sources
    ]


def _write_manifest(
    folder: Path,
    sources: list[dict[str, Any]],
    funnel: Funnel,
    exclusions: Exclusions,
    pins: ModelPins,
    spec: DataSpec,
) -> None:
    manifest = {
        "version": 1,
        "sources": sources,
        "sourcesDigest": _sources_digest(sources),
        "model": pins.model.to_wire(),
        "exclusionsDigest": exclusions.digest,
        "spec": spec.to_wire(),
        "funnel": funnel.to_wire(),
        "files": {
            path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
            for path in sorted(folder.glob("*.parquet"))
        },
    }
    (folder / "manifest.json").write_text(
        json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _sources_digest(sources: list[dict[str, Any]]) -> str:
    lines = "\n".join(f"{source['uri']} {source['sha256']}" for source in sources)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def _pins(pins: ModelPins, folder: str, sources: list[dict[str, Any]]) -> Pins:
    return Pins(
        model=pins.model,
        champion=pins.champion,
        champion_is_model=pins.champion_is_model,
        alias_etag=pins.alias_etag,
        sources=SourcesPin(
            manifest=f"{folder}manifest.json",
            digest=_sources_digest(sources),
            files=len(sources),
            bytes=sum(source["size"] for source in sources),
        ),
    )
