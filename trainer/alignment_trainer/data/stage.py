"""Stage prepare: pins what moves, assembles the pairs, freezes the snapshot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from alignment_api.spec import AlignmentRunSpec
from alignment_api.stage import StageResult
from alignment_api.status import Pins, SourcesPin
from alignment_trainer.data.assemble import Assembled, Assembly, assemble
from alignment_trainer.data.exclusions import EXCLUSIONS
from alignment_trainer.data.leaks import prove_no_leak
from alignment_trainer.data.lengths import fits
from alignment_trainer.data.limits import refuse_too_few, refuse_too_many_invalid
from alignment_trainer.data.power import with_power
from alignment_trainer.data.reading import SourceRead
from alignment_trainer.data.snapshot import MANIFEST, described_files, read_split, write_split
from alignment_trainer.data.split import Side
from alignment_trainer.data.vocabulary import read_text
from alignment_trainer.errors import DataError
from alignment_trainer.evaluation.sets import read_sets
from alignment_trainer.models.resolve import ModelPins, pin_models
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.probe import require_conditional_puts

__all__ = ["run"]

QUARANTINE: Final = "quarantine.jsonl"


def run(context: StageContext) -> StageResult:
    """Carry out prepare. Raises RequestError, DataError (too few pairs, too many invalid rows, a leak)."""
    started = datetime.now(UTC)
    spec = context.request.spec
    # A target that cannot be written, or a store that ignores conditions, is found out now and not after training.
    require_conditional_puts(context.store(spec.publish.uri), spec.publish.uri)
    pins = pin_models(spec, context.store)
    sets = read_sets(spec.evaluation, context.store).files
    folder = context.scratch / "data"
    folder.mkdir(parents=True, exist_ok=True)
    text = read_text(pins, context.store, context.scratch)
    tick = _ticker(context)
    erased = uris.join(spec.artifacts.uri, EXCLUSIONS)
    work = Assembly(
        store=context.store,
        exclusions=(erased,) if context.store(erased).stat(erased) is not None else (),
        scratch=context.scratch,
        fits=fits(text, spec.training.max_length),
        special=text.special_tokens,
        tick=tick,
    )
    found = assemble(spec.data, work)
    found.account.write_quarantine(folder / QUARANTINE)
    try:
        refuse_too_many_invalid(found.account, spec.data)
        refuse_too_few(found.funnel, spec.data)
    except DataError:
        # What is wrong with the data is what a person needs now; without its sums the folder counts as no snapshot.
        uri = f"{context.request.folder}data/{QUARANTINE}"
        context.store(uri).upload(folder / QUARANTINE, uri)
        raise
    found = replace(found, funnel=with_power(found.funnel, found.tally, spec))
    for side in Side:
        tick(f"writing the {side} side", 0, 0)
        write_split(found.sides.pairs(side), folder, side)
    # Of the files themselves, not of what was meant to be in them.
    train, holdout = (read_split(folder, side) for side in (Side.TRAIN, Side.HOLDOUT))
    prove_no_leak(train, holdout, found.template, spec.data.holdout, tick)
    _write_manifest(folder, found, pins, sets, spec)
    output = upload_folder(folder, f"{context.request.folder}data/", context.store(context.request.folder))
    return StageResult(
        stage=context.request.stage,
        input_digest=context.request.input_digest,
        output=output,
        started_time=started,
        finished_time=datetime.now(UTC),
        pins=_pins(pins, output.uri, found.sources, sets),
        data=found.funnel,
    )


def _ticker(context: StageContext) -> Callable[[str, int, int], None]:
    said = ""

    def tick(activity: str, done: int, total: int) -> None:
        nonlocal said
        context.raise_if_stopped()
        if total or activity != said:
            said = activity
            context.progress.update(done, max(total, 1), activity=activity)

    return tick


def _write_manifest(
    folder: Path, found: Assembled, pins: ModelPins, sets: Sequence[SourceRead], spec: AlignmentRunSpec
) -> None:
    manifest = {
        "version": 1,
        "sources": [asdict(source) for source in found.sources],
        "sourcesDigest": _sources_digest(found.sources),
        "sets": [asdict(file) for file in sets],
        "model": pins.model.to_wire(),
        "exclusionsDigest": found.exclusions.digest,
        "spec": spec.data.to_wire(),
        "retentionDays": spec.artifacts.retention_days,
        "funnel": found.funnel.to_wire(),
        "invalid": dict(sorted(found.account.invalid.items())),
        "statistics": found.tally.to_wire(),
        "files": described_files(folder),
    }
    (folder / MANIFEST).write_text(
        json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _sources_digest(sources: Sequence[SourceRead]) -> str:
    lines = "\n".join(f"{source.uri} {source.sha256}" for source in sources)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def _pins(pins: ModelPins, folder: str, sources: Sequence[SourceRead], sets: Sequence[SourceRead]) -> Pins:
    def files(read: Sequence[SourceRead]) -> SourcesPin:
        return SourcesPin(
            manifest=f"{folder}{MANIFEST}",
            digest=_sources_digest(read),
            files=len(read),
            bytes=sum(file.size for file in read),
        )

    return Pins(
        model=pins.model,
        champion=pins.champion,
        champion_is_model=pins.champion_is_model,
        alias_etag=pins.alias_etag,
        sources=files(sources),
        judge=pins.judge,
        sets=files(sets) if sets else None,
    )
