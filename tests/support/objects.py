"""Raw objects as the API server sends them: the smallest that the operator can read."""

from __future__ import annotations

from typing import Any

from alignment_api.names import API_VERSION, KIND, LABEL_ATTEMPT, LABEL_RUN, LABEL_RUN_UID, LABEL_STAGE
from support.runs import manifest

__all__ = ["job", "pod", "run"]

Json = dict[str, Any]


def _owner(version: str, kind: str, name: str, uid: str) -> list[Json]:
    return [{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}]


def run(
    version: int, *, name: str = "notes", uid: str = "run-1", status: Json | None = None, **spec: Any
) -> Json:
    """A run of namespace team."""
    raw = manifest(name, **spec)
    raw["metadata"] |= {
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-05T12:00:00Z",
    }
    return {**raw, "status": status or {}}


def job(
    version: int,
    *,
    stage: str = "train",
    attempt: int = 1,
    uid: str = "job-1",
    status: Json | None = None,
    **spec: Any,
) -> Json:
    """The Job of an attempt of run ``notes``."""
    return {
        "metadata": {
            "name": f"notes-{stage}-{attempt}",
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {
                LABEL_STAGE: stage,
                LABEL_ATTEMPT: str(attempt),
                LABEL_RUN: "notes",
                LABEL_RUN_UID: "run-1",
            },
            "ownerReferences": _owner(API_VERSION, KIND, "notes", "run-1"),
        },
        "spec": {"completions": 1, **spec},
        "status": status or {},
    }


def pod(
    version: int,
    *,
    name: str = "notes-train-1-x",
    uid: str = "pod-1",
    job_uid: str = "job-1",
    index: int | None = None,
    status: Json | None = None,
) -> Json:
    """A pod of that Job."""
    labels = {LABEL_RUN: "notes", LABEL_RUN_UID: "run-1", LABEL_STAGE: "train"}
    if index is not None:
        labels["batch.kubernetes.io/job-completion-index"] = str(index)
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels,
            "ownerReferences": _owner("batch/v1", "Job", "notes-train-1", job_uid),
        },
        "spec": {"containers": [{"name": "stage", "image": "trainer:1"}]},
        "status": status or {"phase": "Pending"},
    }
