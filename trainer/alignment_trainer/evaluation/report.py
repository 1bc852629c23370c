"""The report as data: everything that ``report.json`` and ``report.html`` say, put together once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from alignment_api.evidence import Evidence, MetricResult
from alignment_api.metrics import METRICS
from alignment_api.report import (
    CohortRow,
    ErrorBudgetReport,
    Example,
    Report,
    ReportedMetric,
    TemperatureRow,
    TrainingReport,
)
from alignment_api.stage import StageRequest
from alignment_api.status import Funnel
from alignment_api.verdict import Verdict
from alignment_trainer.data.rows import plain
from alignment_trainer.evaluation.advice import advise, summarise
from alignment_trainer.evaluation.ledger import Reservation
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.metrics.edit_burden import edit_distances
from alignment_trainer.evaluation.metrics.preference_accuracy import preferred
from alignment_trainer.evaluation.statistics import bounds, proportion

__all__ = ["build_report"]

_EACH_KIND: Final = 4
"""Examples shown of each kind: where the candidate gained most, lost most, and any."""
_MOST_COHORTS: Final = 30


def build_report(
    request: StageRequest,
    material: Material,
    metrics: Sequence[MetricResult],
    evidence: Evidence,
    verdict: Verdict,
    *,
    reservation: Reservation,
    judge: dict[str, Any] | None,
    notes: list[str],
    manifest: dict[str, Any],
    training: dict[str, Any],
) -> Report:
    """Put the report together. It shows the texts of a dozen pairs and no others."""
    assert request.pins is not None  # noqa: S101  the contract: only prepare has none
    criteria = list(evidence.criteria)
    return Report(
        created=datetime.now(UTC),
        run=request.run,
        summary=summarise(verdict, criteria),
        verdict=verdict,
        advice=advise(verdict, criteria, holdout=len(material.pairs), answered=len(material.prompted)),
        notes=notes,
        evidence=criteria,
        metrics=[
            ReportedMetric(
                **metric.model_dump(),
                unit=METRICS[metric.name].unit,
                sentence=METRICS[metric.name].sentence,
                family=METRICS[metric.name].family,
            )
            for metric in metrics
        ],
        error_budget=ErrorBudgetReport.model_validate(reservation.to_wire()),
        judge=judge,
        holdout_pairs=len(material.pairs),
        holdout_groups=len(set(material.groups)),
        answered_prompts=len(material.prompted),
        temperatures=[
            TemperatureRow(temperature=t, edit_distance=round(d, 6), taken=t == material.champion_temperature)
            for t, d in sorted(material.temperatures.items())
        ],
        cohorts=_cohorts(material),
        data=Funnel.model_validate(manifest["funnel"]),
        training=TrainingReport.model_validate(training),
        examples=_examples(material),
        pins=request.pins,
        inputs={str(stage): ref for stage, ref in request.inputs.items()},
        input_digest=request.input_digest,
    )


def _cohorts(material: Material) -> list[CohortRow]:
    """Cohorts by size; none where no pair has one."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(material.pairs):
        if pair.cohort:
            members[pair.cohort].append(index)
    right, groups = preferred(material), material.groups
    distances = dict(zip(material.prompted, _gains(material, material.champion_best), strict=True))
    edited = {material.prompted[at] for at in material.edited}
    rows = []
    for name, indices in sorted(members.items(), key=lambda item: -len(item[1]))[:_MOST_COHORTS]:
        own = {groups[i] for i in indices}
        gains = [distances[i] for i in indices if i in edited]
        row = CohortRow(
            name=name,
            pairs=len(indices),
            groups=len(own),
            edit_burden=sum(gains) / len(gains) if gains else None,
        )
        if len(own) > 1:
            estimate = proportion([float(right[i]) for i in indices], [groups[i] for i in indices])
            low, high = bounds(estimate, 0.025)
            row = row.model_copy(update={"preference_accuracy": estimate.value, "low": low, "high": high})
        rows.append(row)
    return rows


def _gains(material: Material, champion: list[str]) -> list[float]:
    """Edit distance of the candidate minus that of these texts of the champion, by answered prompt."""
    finals = [plain(material.pairs[index].chosen) for index in material.prompted]
    candidate = edit_distances([g.text for g in material.candidate], finals)
    return list(candidate - edit_distances(champion, finals))


def _shown(material: Material) -> list[str]:
    """The champion's texts that were compared: as the judge saw them, or as edit burden takes them."""
    if material.judgements is not None:
        return [g.text for g in material.champion]
    return material.champion_best


def _examples(material: Material) -> list[Example]:
    """Where the candidate gained most, where it lost most, and some drawn blindly: none of them picked to please."""
    gains = _gains(material, _shown(material))
    order = sorted(range(len(gains)), key=lambda at: gains[at])
    best = [at for at in order[:_EACH_KIND] if gains[at] < 0]
    worst = [at for at in reversed(order[-_EACH_KIND:]) if gains[at] > 0 and at not in best]
    rest = [at for at in order if at not in {*best, *worst}]
    drawn = sorted(random.Random("examples").sample(rest, min(_EACH_KIND, len(rest))))
    return [
        _example(material, at, kind)
        for kind, positions in (("Best", best), ("Worst", worst), ("Random", drawn))
        for at in positions
    ]


def _example(material: Material, at: int, kind: Any) -> Example:
    pair = material.pairs[material.prompted[at]]
    ours, theirs = material.candidate[at].text, _shown(material)[at]
    final = plain(pair.chosen)
    distances = edit_distances([ours, theirs], [final, final])
    return Example(
        kind=kind,
        prompt=plain(pair.prompt),
        final=final,
        draft=plain(pair.rejected),
        candidate=ours,
        champion=theirs,
        candidate_distance=round(float(distances[0]), 4),
        champion_distance=round(float(distances[1]), 4),
        preference=material.judgements[at].preference if material.judgements is not None else None,
    )
