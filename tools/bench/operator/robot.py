"""Stands in for Job controller, scheduler and kubelet: gives Jobs pods, and lets them run and succeed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from alignment_api.evidence import CriterionEvidence, Evidence, MetricResult
from alignment_api.metrics import METRICS, MetricName
from alignment_api.names import REQUEST_ANNOTATION, StageName
from alignment_api.stage import ArtifactRef, StageRequest, StageResult, TrainingSummary
from alignment_api.status import Funnel, ModelPin, Pins, PublishedModel, SourcesPin
from tools.bench.operator.client import Client

__all__ = ["CRITERIA", "Robot", "result"]

Json = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32
CRITERIA: tuple[Json, ...] = (
    {"name": "edits", "metric": "editBurden", "maximum": 0.0, "minimumEffect": 0.02},
    {"name": "length", "metric": "lengthRatio", "maximum": 1.25},
    {"name": "fluency", "metric": "fluencyGap", "maximum": 0.1},
    {"name": "degenerate", "metric": "degenerateRate", "maximum": 0.01},
    {"name": "accuracy", "metric": "preferenceAccuracy", "minimum": 0.5, "mode": "DryRun"},
    {"name": "wins", "metric": "winRate", "minimum": 0.5, "mode": "DryRun"},
)
_RUNNING_SECONDS = 0.3


class Robot:
    """Carries every Job to success, a small step at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    def seen(self, kind: str, job: Json, _moment: float) -> None:
        """A watch brought a Job."""
        if kind == "ADDED":
            task = asyncio.ensure_future(self._live(job))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        task.result()

    async def _live(self, job: Json) -> None:
        metadata = job["metadata"]
        jobs = f"/apis/batch/v1/namespaces/{metadata['namespace']}/jobs/{metadata['name']}"
        began = _now()
        await self._client.status(jobs, {"active": 1, "ready": 0, "startTime": began})
        pod = await self._client.call("POST", f"/api/v1/namespaces/{metadata['namespace']}/pods", _pod(job))
        pods = f"/api/v1/namespaces/{metadata['namespace']}/pods/{pod['metadata']['name']}"
        container = {"name": "stage", "image": "trainer", "imageID": "", "restartCount": 0}
        running = {**container, "ready": True, "state": {"running": {"startedAt": _now()}}}
        await self._client.status(
            pods, {"phase": "Running", "podIP": "127.0.0.2", "containerStatuses": [running]}
        )
        await self._client.status(jobs, {"ready": 1})
        await asyncio.sleep(_RUNNING_SECONDS)
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        request = StageRequest.model_validate(json.loads(annotations[REQUEST_ANNOTATION]))
        terminated = {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": began,
            "finishedAt": _now(),
            "message": result(request).to_termination_message(),
        }
        ended = {**container, "ready": False, "state": {"terminated": terminated}}
        await self._client.status(pods, {"phase": "Succeeded", "containerStatuses": [ended]})
        await self._client.status(jobs, {"active": 0, "ready": 0, "succeeded": 1, "completionTime": _now(), "conditions": [
            _condition("SuccessCriteriaMet"), _condition("Complete")]})  # fmt: skip


def result(request: StageRequest) -> StageResult:
    """A stage's answer of realistic size."""
    stage, now = request.stage, datetime.now(UTC)
    extra: Json = {}
    if stage is StageName.PREPARE:
        pin = ModelPin(uri="s3://models/notes/versions/notes-2026-w47-1a2b3c4d/", digest=DIGEST)
        manifest = f"{request.folder}data/manifest.json"
        extra = {
            "pins": Pins(
                model=pin,
                champion=pin,
                sources=SourcesPin(manifest=manifest, digest=DIGEST, files=118, bytes=9_000_000),
            ),
            "data": Funnel(
                rows=5000, pairs=4000, train=3200, holdout=800, groups=900, holdout_groups=180, invalid=12,
                duplicates=500, unpaired=488, warnings=("The holdout has 180 groups; 250 would decide more.",),
            ),
        }  # fmt: skip
    if stage is StageName.TRAIN:
        extra = {"training": TrainingSummary(steps=200, pairs=3200, final_loss=0.412, engine="PrefixShared")}
    if stage is StageName.EVALUATE:
        metrics = tuple(
            MetricResult(
                name=name, selector="general" if METRICS[name].selected else "", estimate=0.612345,
                low=0.571234, high=0.651234, n=800, clusters=180, method="cluster bootstrap", champion=0.5,
            )
            for name in MetricName
        )  # fmt: skip
        evidence = tuple(_evidence(criterion) for criterion in request.spec.gate.criteria)
        extra = {
            "metrics": metrics,
            "evidence": Evidence(criteria=evidence),
            "headline": "editBurden -0.07 [-0.10, -0.05]",
        }
    if stage is StageName.PUBLISH:
        version = f"{request.run.name}-{request.run.uid[:8]}"
        uri = f"s3://models/notes/versions/{version}/"
        extra = {
            "published": PublishedModel(
                uri=uri, version=version, digest=DIGEST, alias="s3://models/notes/aliases/champion"
            )
        }
    return StageResult(
        stage=stage,
        input_digest=request.input_digest,
        output=ArtifactRef(uri=f"{request.folder}{stage}/", digest=DIGEST),
        started_time=now,
        finished_time=now,
        **extra,
    )


def _evidence(criterion: Any) -> CriterionEvidence:
    limit = criterion.maximum if criterion.maximum is not None else criterion.minimum
    side = -1.0 if criterion.maximum is not None else 1.0
    return CriterionEvidence(
        criterion=criterion,
        estimate=limit + side * 0.07,
        low=limit + side * 0.07 - 0.02,
        high=limit + side * 0.07 + 0.02,
        p_value=0.001,
        alpha=0.0125,
        n=800,
        clusters=180,
        needed_pairs=640,
    )


def _pod(job: Json) -> Json:
    metadata, template = job["metadata"], job["spec"]["template"]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": metadata["name"]}
    return {
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "labels": labels,
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def _condition(kind: str) -> Json:
    return {
        "type": kind,
        "status": "True",
        "reason": "CompletionsReached",
        "lastProbeTime": _now(),
        "lastTransitionTime": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
