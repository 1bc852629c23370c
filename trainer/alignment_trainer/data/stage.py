"""Stage prepare: pins what moves, assembles the pairs, freezes the snapshot."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignment_api.spec import AlignmentRunSpec, DataSpec
from alignment_api.stage import StageResult
from alignment_api.status import Pins, SourcesPin
from alignment_trainer.data.assemble import (
    Assembled,
    Assembly,
    assemble,
    refuse_too_few,
    refuse_too_many_invalid,
)
from alignment_trainer.data.lengths import ModelText, fits
from alignment_trainer.data.snapshot import write_split
from alignment_trainer.data.split import Side, group_key
from alignment_trainer.models.fetch import read_model_file
from alignment_trainer.models.resolve import ModelPins, pin_models
from alignment_trainer.planning import holdout_warnings
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import object_sha256, upload_folder
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.store import ObjectInfo
from alignment_trainer.training.dataset import mostly_edits

__all__ = ["run"]


def run(context: StageContext) -> StageResult:
    """Carry out prepare. Raises RequestError, DataError (too few pairs, too many invalid rows, a leak)."""
    started = datetime.now(UTC)
    spec = context.request.spec
    # A target that cannot be written, or a store that ignores conditions, is found out now and not after training.
    require_conditional_puts(context.store(spec.publish.uri), spec.publish.uri)
    pins = pin_models(spec, context.store)
    folder = context.scratch / "data"
    folder.mkdir(parents=True, exist_ok=True)
    text = ModelText.load(
        lambda name: read_model_file(pins.model, name, context.store, context.scratch), pins.model.uri
    )
    work = Assembly(
        context.store, fits(text, spec.training.max_length), text.special_tokens, _ticker(context)
    )
    found = assemble(spec.data, work, folder / "quarantine.jsonl")
    refuse_too_many_invalid(found.account, spec.data)
    refuse_too_few(found.funnel, spec.data)
    found = _with_power(found, spec)
    for side, members in found.sides.items():
        write_split(members, folder, side)
    sources = _source_list(context, found.sources)
    _write_manifest(folder, sources, found, pins, spec.data)
    output = upload_folder(folder, f"{context.request.folder}data/", context.store(context.request.folder))
    return StageResult(
        stage=context.request.stage,
        input_digest=context.request.input_digest,
        output=output,
        started_time=started,
        finished_time=datetime.now(UTC),
        pins=_pins(pins, output.uri, sources),
        data=found.funnel,
    )


def _with_power(found: Assembled, spec: AlignmentRunSpec) -> Assembled:
    """Add what the holdout is too small for to the warnings: said now, before any GPU is used."""
    holdout = found.sides[Side.HOLDOUT]
    sizes = Counter(group_key(pair, spec.data.holdout) for pair in holdout).values()
    more = holdout_warnings(spec, sizes, edits=mostly_edits(holdout))
    warnings = (*more, *found.funnel.warnings)
    return replace(found, funnel=found.funnel.model_copy(update={"warnings": warnings}))


def _ticker(context: StageContext) -> Any:
    def tick(done: int, total: int) -> None:
        context.raise_if_stopped()
        if total > 1:
            context.progress.update(done, total, activity="reading sources")

    return tick


def _source_list(context: StageContext, sources: list[ObjectInfo]) -> list[dict[str, Any]]:
    return [
        {
            "uri": info.uri,
            "size": info.size,
            "etag": info.etag,
            "sha256": object_sha256(context.store(info.uri), info.uri),
        }
        for info in sources
    ]


def _write_manifest(
    folder: Path, sources: list[dict[str, Any]], found: Assembled, pins: ModelPins, spec: DataSpec
) -> None:
    manifest = {
        "version": 1,
        "sources": sources,
        "sourcesDigest": _sources_digest(sources),
        "model": pins.model.to_wire(),
        "exclusionsDigest": found.exclusions.digest,
        "spec": spec.to_wire(),
        "funnel": found.funnel.to_wire(),
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
