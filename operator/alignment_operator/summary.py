"""What metrics tell of a run, read from its JSON once: about 1 KiB, for as long as the run is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from alignment_api.metrics import MetricName
from alignment_api.names import STAGES
from alignment_api.spec import ErrorBudget

__all__ = ["FATES", "TOLD", "Estimate", "RunSummary", "run_summary"]

Json = dict[str, Any]

TOLD: Final = (
    MetricName.EDIT_BURDEN,
    MetricName.WIN_RATE,
    MetricName.PREFERENCE_ACCURACY,
    MetricName.WORST_COHORT_ACCURACY,
)
"""Metrics of the evaluation that are exported; the report has the rest."""
FATES: Final = (
    "train",
    "holdout",
    "invalid",
    "excluded",
    "duplicates",
    "contradictions",
    "unpaired",
    "dropped",
)
"""What becomes of a row; every row meets exactly one. The last sums up all other reasons."""
_YEAR_SECONDS: Final = 365.0 * 86400
_DECISIONS_PER_YEAR: Final = ErrorBudget.model_fields["decisions_per_year"].default


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with the ends of its interval."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What metrics tell of a run.

    target: URI of the alias it publishes to; created: when it was made; since: when Succeeded came to its status, 0
    before the first look; both in seconds since 1970; criterion: metric of the verdict's first blocking one; limits: of all
    blocking ones, by metric; stage_seconds:
    running time by stage, in the order of STAGES, None for a stage that has not finished; progress: share of the
    running stage that is done, 0 to 1; metrics: those of TOLD that were measured; rows: how many met each of FATES,
    empty before prepare has ended; cadence: planned seconds between two decisions.
    """

    model: str
    method: str
    target: str
    status: str
    reason: str
    created: float
    since: float
    metrics: Mapping[MetricName, Estimate]
    criterion: str
    criterion_estimate: float | None
    limits: Mapping[str, float]
    stage_seconds: tuple[float | None, ...]
    stage: str
    progress: float | None
    rows: tuple[int, ...]
    cadence: float


def run_summary(raw: Json, status: Json) -> RunSummary:
    """Of a run as the API server gives it. status: its status, empty before the first look."""
    spec = raw.get("spec") or {}
    training = spec.get("training") or {}
    publish = spec.get("publish") or {}
    succeeded: Json = next((c for c in status.get("conditions") or () if c.get("type") == "Succeeded"), {})
    stages = {s.get("name"): s for s in status.get("stages") or ()}
    metrics = {m.get("name"): m for m in status.get("metrics") or () if not m.get("selector")}
    criterion = next(iter(_blocking(status)), {})
    progress: Json = status.get("progress") or {}
    return RunSummary(
        model=(spec.get("model") or {}).get("uri", ""),
        method=training.get("method", "DPO"),
        target=f"{publish.get('uri', '').rstrip('/')}/aliases/{publish.get('alias', 'champion')}",
        status=succeeded.get("status", "Unknown"),
        reason=succeeded.get("reason", ""),
        created=_seconds(raw["metadata"].get("creationTimestamp")),
        since=_seconds(succeeded.get("lastTransitionTime")),
        metrics={name: found for name in TOLD if (found := _estimate(metrics.get(name))) is not None},
        criterion=str(criterion.get("metric", "")),
        criterion_estimate=criterion.get("estimate"),
        limits=_limits(status),
        stage_seconds=tuple(_stage_seconds(stages.get(str(stage))) for stage in STAGES),
        stage=progress.get("stage", ""),
        progress=_share(progress),
        rows=_fates(status.get("data")),
        cadence=_YEAR_SECONDS / _decisions_per_year(spec),
    )


def _share(progress: Json) -> float | None:
    """Finer than the whole percents of the status: a stage of days moves one of those in an hour."""
    steps = progress.get("steps")
    return min(1.0, progress.get("step", 0) / steps) if steps else None


def _fates(data: Json | None) -> tuple[int, ...]:
    if data is None:
        return ()
    named = tuple(int(data.get(fate, 0)) for fate in FATES[:-1])
    return (*named, sum((data.get("dropped") or {}).values()))


def _decisions_per_year(spec: Json) -> int:
    budget = (spec.get("gate") or {}).get("errorBudget") or {}
    return int(budget.get("decisionsPerYear") or _DECISIONS_PER_YEAR)


def _blocking(status: Json) -> list[Json]:
    criteria: list[Json] = (status.get("verdict") or {}).get("criteria") or []
    return [criterion for criterion in criteria if criterion.get("mode", "Blocking") == "Blocking"]


def _limits(status: Json) -> dict[str, float]:
    """By metric; of metrics that stand for several sets none, and of two limits on one metric the first."""
    found: dict[str, float] = {}
    for criterion in _blocking(status):
        if criterion.get("limit") is not None and not criterion.get("selector"):
            found.setdefault(str(criterion["metric"]), float(criterion["limit"]))
    return found


def _estimate(metric: Json | None) -> Estimate | None:
    if metric is None or metric.get("estimate") is None:
        return None
    return Estimate(metric["estimate"], metric.get("low"), metric.get("high"))


def _stage_seconds(stage: Json | None) -> float | None:
    return float(stage.get("runningSeconds", 0.0)) if stage and stage.get("endTime") else None


def _seconds(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0
