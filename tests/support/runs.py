"""Builders of runs, results and evidence: the smallest valid ones, changed by keyword."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from alignment_api.evidence import CriterionEvidence, Evidence, MetricResult
from alignment_api.metrics import MetricName
from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.spec import Criterion
from alignment_api.stage import ArtifactRef, StageRequest, StageResult
from alignment_api.status import Funnel, ModelPin, Pins, PublishedModel, SourcesPin

DIGEST = "sha256:" + "0" * 64
UID = "12345678-aaaa-bbbb-cccc-1234567890ab"
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def manifest(name: str = "notes", **spec: Any) -> dict[str, Any]:
    """A minimal AlignmentRun as a person would write it; ``spec`` replaces whole sections."""
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentRun",
        "metadata": {"name": name, "namespace": "team", "uid": UID, "generation": 1},
        "spec": {
            "model": {"uri": "s3://models/base/"},
            "data": {"sources": [{"uri": "s3://feedback/*.jsonl"}]},
            "publish": {"uri": "s3://models/notes/"},
            "artifacts": {"uri": "s3://artifacts/"},
            **spec,
        },
    }


def run(name: str = "notes", **spec: Any) -> AlignmentRun:
    """A parsed run."""
    return AlignmentRun.model_validate(manifest(name, **spec))


def at(seconds: float) -> datetime:
    """A moment, in seconds after the start of the story."""
    return START + timedelta(seconds=seconds)


def pins() -> Pins:
    """Pins as prepare makes them."""
    pin = ModelPin(uri="s3://models/base/", digest=DIGEST)
    return Pins(
        model=pin,
        champion=pin,
        champion_is_model=True,
        sources=SourcesPin(manifest="s3://artifacts/manifest.json", digest=DIGEST, files=1, bytes=10),
    )


def evidence(
    low: float,
    high: float,
    *,
    estimate: float | None = None,
    maximum: float | None = 0.0,
    minimum: float | None = None,
    name: str = "edits",
    metric: str = "editBurden",
    mode: str = "Blocking",
    p_value: float | None = None,
    n: int = 100,
) -> CriterionEvidence:
    """Evidence for one criterion with these bounds."""
    criterion = Criterion.model_validate(
        {"name": name, "metric": metric, "minimum": minimum, "maximum": maximum, "mode": mode}
    )
    middle = round((low + high) / 2, 6) if estimate is None else estimate
    return CriterionEvidence(
        criterion=criterion, estimate=middle, low=low, high=high, alpha=0.05, n=n, clusters=n, p_value=p_value
    )


PASSED = Evidence(criteria=(evidence(-0.2, -0.1),))
FAILED = Evidence(criteria=(evidence(0.1, 0.2),))
INCONCLUSIVE = Evidence(criteria=(evidence(-0.1, 0.1),))


def result(
    stage: StageName, request: StageRequest | None = None, *, seconds: float = 0.0, **fields: Any
) -> StageResult:
    """A stage's answer to a request."""
    extra: dict[str, Any] = {}
    if stage is StageName.PREPARE:
        extra = {
            "pins": pins(),
            "data": Funnel(rows=10, pairs=10, train=8, holdout=2, groups=5, holdout_groups=1),
        }
    if stage is StageName.EVALUATE:
        metric = MetricResult(
            name=MetricName.EDIT_BURDEN, estimate=-0.15, low=-0.2, high=-0.1, n=100, clusters=100
        )
        extra = {"evidence": PASSED, "metrics": (metric,), "headline": "editBurden -0.15 [-0.20, -0.10]"}
    if stage is StageName.PUBLISH:
        extra = {
            "published": PublishedModel(
                uri="s3://models/notes/versions/v/",
                version="v",
                digest=DIGEST,
                alias="s3://models/notes/aliases/champion",
            )
        }
    return StageResult(
        stage=stage,
        input_digest=request.input_digest if request else DIGEST,
        output=ArtifactRef(uri=f"s3://artifacts/{stage}/", digest=DIGEST),
        started_time=at(seconds),
        finished_time=at(seconds),
        **(extra | fields),
    )
