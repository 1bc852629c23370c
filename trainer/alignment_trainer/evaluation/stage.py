"""Stage evaluate: candidate against champion on the holdout, evidence for the gate, the report."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from alignment_api.evidence import Evidence, MetricResult
from alignment_api.gate import decide
from alignment_api.metrics import METRICS, MetricFamily, MetricName
from alignment_api.names import StageName
from alignment_api.spec import JudgeType
from alignment_api.stage import StageResult
from alignment_trainer.data.rows import Kind
from alignment_trainer.data.snapshot import read_split
from alignment_trainer.data.split import Side
from alignment_trainer.evaluation.criteria import gather_evidence
from alignment_trainer.evaluation.defaults import default_criteria
from alignment_trainer.evaluation.gathering import dump_generations, gather
from alignment_trainer.evaluation.ledger import ledger_uri, reserve
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics import REGISTRY, measure
from alignment_trainer.evaluation.report import build_report, render_html
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import fetch_folder, upload_folder

__all__ = ["run"]


def run(context: StageContext) -> StageResult:
    """Carry out evaluate. The budget is reserved before anything about this candidate is known."""
    started = datetime.now(UTC)
    os.environ["HF_HOME"] = str(context.scratch / "huggingface")  # before the libraries read it
    request = context.request
    spec = request.spec
    place = ledger_uri(spec)
    alpha = reserve(spec, request.run.uid, context.store(place))
    snapshot = request.inputs[StageName.PREPARE]
    data = fetch_folder(snapshot, context.store(snapshot.uri), context.scratch / "snapshot")
    pairs = list(read_split(data, Side.HOLDOUT))
    edits = 2 * sum(pair.kind is Kind.EDIT for pair in pairs) > len(pairs)
    material = gather(context, pairs)

    @cache
    def measured(name: MetricName, selector: str) -> Measurement:
        return measure(name, material, selector)

    criteria = spec.gate.criteria or default_criteria(spec.evaluation, edits=edits)
    comparable = edits or spec.evaluation.judge.type is not JudgeType.NONE
    evidence = gather_evidence(criteria, measured, alpha, comparable=comparable)
    wanted = [(name, "") for name in REGISTRY if not METRICS[name].selected]
    wanted += [(MetricName.ANCHOR_LOSS_DELTA, anchor.name) for anchor in spec.evaluation.anchors]
    metrics = tuple(measured(name, selector).to_result(name, selector) for name, selector in wanted)
    folder = context.scratch / "evaluation"
    folder.mkdir(exist_ok=True)
    report = build_report(
        request,
        material,
        metrics,
        evidence,
        decide(spec.gate.criteria, evidence),
        notes=_notes(context, evidence, alpha.message, edits=edits),
        funnel=json.loads((data / "manifest.json").read_text(encoding="utf-8"))["funnel"],
        training=_training_record(context),
    )
    _write(folder, report, material)
    output = upload_folder(folder, f"{request.folder}evaluation/", context.store(request.folder))
    return StageResult(
        stage=request.stage,
        input_digest=request.input_digest,
        output=output,
        started_time=started,
        finished_time=datetime.now(UTC),
        metrics=metrics,
        evidence=evidence,
        headline=_headline(evidence, metrics),
    )


def _write(folder: Path, report: dict[str, Any], material: Material) -> None:
    (folder / "report.json").write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "report.html").write_text(render_html(report), encoding="utf-8")
    (folder / "generations.jsonl").write_text(dump_generations(material), encoding="utf-8")
    _write_scores(folder / "scores.parquet", material)


def _write_scores(path: Path, material: Material) -> None:
    """Per-pair log-probabilities, nats summed over answer tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "pair_id": [pair.pair_id for pair in material.pairs],
            "candidate_chosen": material.candidate_logps.chosen,
            "candidate_rejected": material.candidate_logps.rejected,
            "champion_chosen": material.champion_logps.chosen,
            "champion_rejected": material.champion_logps.rejected,
        }
    )
    pq.write_table(table, path)


def _training_record(context: StageContext) -> dict[str, Any]:
    candidate = context.request.inputs[StageName.TRAIN]
    data, _ = context.store(candidate.uri).get(f"{candidate.uri.rstrip('/')}/training.json")
    record: dict[str, Any] = json.loads(data)
    return record


def _notes(context: StageContext, evidence: Evidence, budget: str | None, *, edits: bool) -> list[str]:
    pins = context.request.pins
    notes = [budget] if budget else []
    if pins is not None and pins.champion_is_model:
        notes.append(
            "There is no champion yet: the candidate is compared with the model it was trained from."
        )
    blocking = {e.criterion.metric for e in evidence.criteria if e.criterion.mode == "Blocking"}
    if not any(METRICS[metric].family is MetricFamily.SUPERIORITY for metric in blocking):
        why = "although the pairs are edits" if edits else "because there are neither edits nor a judge"
        notes.append(
            f"No criterion compares generated texts, {why}: likelihoods show the direction of a change, never that the "
            "model is better. Treat this verdict as weak."
        )
    return notes


def _headline(evidence: Evidence, metrics: tuple[MetricResult, ...]) -> str | None:
    """The first blocking criterion's metric with its two-sided 95 % interval."""
    first = next((e.criterion.metric for e in evidence.criteria if e.criterion.mode == "Blocking"), None)
    metric = next((m for m in metrics if m.name is first and m.estimate is not None), None)
    if metric is None or metric.estimate is None or metric.low is None or metric.high is None:
        return None
    return f"{metric.name} {metric.estimate:+.3f} [{metric.low:+.3f}, {metric.high:+.3f}]"
