"""Stage evaluate: candidate against champion on the holdout, evidence for the gate, the report."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from alignment_api.evidence import Evidence, MetricResult
from alignment_api.gate import decide
from alignment_api.metrics import METRICS, MetricFamily, MetricName
from alignment_api.names import StageName
from alignment_api.report import Report
from alignment_api.stage import StageResult
from alignment_trainer.data.rows import Kind, Pair
from alignment_trainer.data.snapshot import MANIFEST, read_split
from alignment_trainer.data.split import Side
from alignment_trainer.evaluation.criteria import gather_evidence
from alignment_trainer.evaluation.defaults import NOT_BETTER, asks_for_better, default_criteria
from alignment_trainer.evaluation.gathering import Gatherer, dump_generations
from alignment_trainer.evaluation.judges import open_judge
from alignment_trainer.evaluation.judges.base import Comparison, Judge, Judgement, judgements, require_answers
from alignment_trainer.evaluation.ledger import ledger_uri, reserve
from alignment_trainer.evaluation.loading import data_words, load_seat, load_sets
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics import REGISTRY, measure
from alignment_trainer.evaluation.prompts import rests_on_edits
from alignment_trainer.evaluation.report import build_report
from alignment_trainer.evaluation.report_html import render_html
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.inputs import require_unchanged
from alignment_trainer.storage.folders import fetch_folder, upload_folder

__all__ = ["headline", "run"]

_MOST_METRICS: Final = 32
"""As many metrics as a status holds; the criteria's come first."""
_CUT_SHARE: Final = 0.02
"""From here on the report says that answers are cut."""


def run(context: StageContext) -> StageResult:
    """Carry out evaluate. The budget is reserved before anything about this candidate is known."""
    started = datetime.now(UTC)
    os.environ["HF_HOME"] = str(context.scratch / "huggingface")  # before the libraries read it
    request = context.request
    spec = request.spec
    judge = open_judge(context)
    snapshot = request.inputs[StageName.PREPARE]
    data = fetch_folder(snapshot, context.store(snapshot.uri), context.scratch / "snapshot")
    pairs = list(read_split(data, Side.HOLDOUT))
    if judge is not None:
        judge.check([pair.prompt for pair in pairs])
    reservation = reserve(spec, request.run.uid, context.store(ledger_uri(spec)))
    edits = rests_on_edits(sum(pair.kind is Kind.EDIT for pair in pairs), len(pairs))
    steps = _Steps(context)
    material = _gather(context, steps, pairs, data, judged=judge is not None)
    if judge is not None:
        told = _judged(steps, judge, material)
        require_answers(told, last_attempt=request.attempt > spec.backoff_limit)
        material = replace(material, judgements=told)

    @cache
    def measured(name: MetricName, selector: str) -> Measurement:
        return measure(name, material, selector)

    criteria = spec.gate.criteria or default_criteria(spec.evaluation, edits=edits)
    evidence = gather_evidence(criteria, measured, reservation.alpha, comparable=edits or judge is not None)
    wanted = [(criterion.metric, criterion.selector or "") for criterion in criteria]
    wanted += [(name, "") for name in REGISTRY if not METRICS[name].selected]
    wanted += [(MetricName.ANCHOR_LOSS_DELTA, anchor.name) for anchor in spec.evaluation.anchors]
    wanted += [(MetricName.REFUSAL_RATE, refusal.name) for refusal in spec.evaluation.refusals]
    metrics = tuple(
        measured(name, selector).to_result(name, selector)
        for name, selector in list(dict.fromkeys(wanted))[:_MOST_METRICS]
    )
    folder = context.scratch / "evaluation"
    folder.mkdir(exist_ok=True)
    report = build_report(
        request,
        material,
        metrics,
        evidence,
        decide(spec.gate.criteria, evidence),
        reservation=reservation,
        judge=judge.describe() if judge is not None else None,
        notes=[
            *_notes(context, evidence, reservation.alpha.message, edits=edits),
            *_cut_answers(material, spec.evaluation.generation.max_new_tokens),
        ],
        manifest=json.loads((data / MANIFEST).read_text(encoding="utf-8")),
        training=_training_record(context),
    )
    _write(folder, report, material)
    require_unchanged(context, StageName.PREPARE)
    output = upload_folder(folder, f"{request.folder}evaluation/", context.store(request.folder))
    return StageResult(
        stage=request.stage,
        input_digest=request.input_digest,
        output=output,
        started_time=started,
        finished_time=datetime.now(UTC),
        metrics=metrics,
        evidence=evidence,
        headline=headline(evidence, metrics),
    )


@dataclass
class _Steps:
    """The stage's progress as one sequence: gathering, then with a judge one step for each comparison."""

    context: StageContext
    gathered: int = 0
    compared: int = 0

    def gather(self, activity: str, done: int, total: int) -> None:
        self.gathered = total
        self._tell(activity, done)

    def judge(self, done: int) -> None:
        self._tell("judging", self.gathered + done)

    def _tell(self, activity: str, done: int) -> None:
        self.context.raise_if_stopped()
        self.context.progress.update(done, self.gathered + self.compared, activity=activity)


def _gather(context: StageContext, steps: _Steps, pairs: list[Pair], data: Path, *, judged: bool) -> Material:
    request = context.request
    assert request.pins is not None  # noqa: S101  the contract: only prepare has none
    work = Gatherer(
        pairs,
        request.spec.evaluation,
        maximum=request.spec.training.max_length,
        seed=request.spec.training.seed,
        engine=request.spec.training.engine,
        words=data_words(data),
        sets=load_sets(context, data),
        tick=steps.gather,
    )
    steps.compared = len(work.prompted) if judged else 0
    champion = load_seat(context, request.pins.champion)
    view = work.champion(champion)
    return work.candidate(load_seat(context, request.inputs[StageName.TRAIN]), view, champion)


def _judged(steps: _Steps, judge: Judge, material: Material) -> list[Judgement]:
    comparisons = [
        Comparison(material.pairs[index].prompt, ours.text, theirs.text)
        for index, ours, theirs in zip(material.prompted, material.candidate, material.champion, strict=True)
    ]
    return judgements(judge, comparisons, steps.judge)


def _write(folder: Path, report: Report, material: Material) -> None:
    (folder / "report.json").write_text(
        json.dumps(report.to_wire(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
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
    if not asks_for_better([e.criterion for e in evidence.criteria]):
        notes.append(f"{NOT_BETTER[0].upper()}{NOT_BETTER[1:]}.")
    blocking = {e.criterion.metric for e in evidence.criteria if e.criterion.mode == "Blocking"}
    if not any(METRICS[metric].family is MetricFamily.SUPERIORITY for metric in blocking):
        why = "although there are edits" if edits else "because there are neither enough edits nor a judge"
        notes.append(
            f"No criterion compares generated texts, {why}: likelihoods show the direction of a change, never that the "
            "model is better. Treat this verdict as weak."
        )
    return notes


def _cut_answers(material: Material, longest: int) -> list[str]:
    """Where people's texts are longer than what may be generated, much of the comparison is of beginnings."""
    tokens = material.chosen_tokens[material.prompted]
    share = float((tokens > longest).mean())
    if share < _CUT_SHARE:
        return []
    said = (
        f"{share:.0%} of the texts that people ended up with are longer than evaluation.generation.maxNewTokens ({longest}); "
        f"answers to these prompts are cut. The longest has {tokens.max()} tokens."
    )
    return [said]


def headline(evidence: Evidence, metrics: tuple[MetricResult, ...]) -> str | None:
    """The first blocking criterion's metric with its two-sided 95 % interval."""
    first = next((e.criterion for e in evidence.criteria if e.criterion.mode == "Blocking"), None)
    if first is None:
        return None
    wanted = (first.metric, first.selector or "")
    metric = next((m for m in metrics if (m.name, m.selector) == wanted), None)
    if metric is None or metric.estimate is None or metric.low is None or metric.high is None:
        return None
    return f"{metric.name} {metric.estimate:+.3f} [{metric.low:+.3f}, {metric.high:+.3f}]"
