"""Trainings of the tiny model: a quick one, and one long enough to be disturbed after its first checkpoint."""

from __future__ import annotations

import json

from support.cluster import Team

__all__ = ["LONG", "QUICK", "evict", "until_checkpoint"]

QUICK = {
    "precision": "Float32",
    "maxLength": 256,
    "epochs": 1,
    "pairsPerStep": 8,
    "selectionFraction": 0,
    "learningRate": 1e-4,
}
LONG = {**QUICK, "epochs": 60}


def until_checkpoint(notes: Team) -> str:
    """Wait for a complete checkpoint; the name of the pod that trains."""

    def stored() -> bool:
        keys = notes.objects("artifacts/")
        return any("/checkpoint-" in key and key.endswith("SHA256SUMS") for key in keys)

    notes.until_so("a checkpoint is stored", stored, 240)
    return str(next(pod["metadata"]["name"] for pod in notes.pods("train")))


def evict(notes: Team, pod: str) -> None:
    """Evict a pod, as the draining of its node does."""
    metadata = {"name": pod, "namespace": notes.name}
    eviction = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    path = f"/api/v1/namespaces/{notes.name}/pods/{pod}/eviction"
    notes.kubectl("create", "--raw", path, "-f", "-", text=eviction)
