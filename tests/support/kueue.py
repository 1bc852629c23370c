"""A real Kueue in the test cluster, with one GPU's worth of quota for one namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tools.cluster import binaries, shell
from tools.cluster.kubectl import Kubectl
from tools.cluster.providers import choose

__all__ = ["NAMESPACE", "QUEUE", "installed", "ready", "urgent_job"]

NAMESPACE = "kueue-system"
QUEUE = "queue"
_DEPLOYMENT = "deployment/kueue-controller-manager"


@contextmanager
def installed(kubectl: Kubectl, team: str) -> Iterator[None]:
    """Install Kueue, its queues, and a priority; removed at the end."""
    repository, _, tag = choose().program("kueue").rpartition(":")
    manager = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
    }
    values = {
        "controllerManager": {
            "manager": manager,
            "readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 1},
        }
    }
    chart = str(binaries.module_folder("kueue") / "charts" / "kueue")
    where = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "240s", "--values", "-"]
    kubectl.helm("upgrade", "--install", "kueue", chart, *where, text=json.dumps(values))
    try:
        ready(kubectl)
        # Its webhooks answer a moment after its pod is ready.
        shell.wait_until("Kueue admits queues", 90, lambda: bool(kubectl.apply(_queues(team))))
        yield
    finally:
        # Its objects carry finalizers that only a running Kueue takes off.
        ready(kubectl)
        kubectl("delete", "jobs", "--all", "-n", team, "--timeout=60s", check=False)
        kubectl("delete", "-f", "-", "--ignore-not-found", "--timeout=60s", text=_queues(team), check=False)
        kubectl.helm("uninstall", "kueue", "--namespace", NAMESPACE)


def ready(kubectl: Kubectl, replicas: int = 1) -> None:
    """Scale the manager and wait until it is so."""
    kubectl("-n", NAMESPACE, "scale", _DEPLOYMENT, f"--replicas={replicas}")
    kubectl("-n", NAMESPACE, "rollout", "status", _DEPLOYMENT, "--timeout=120s")
    if replicas == 0:
        shell.wait_until("Kueue is gone", 60, lambda: not kubectl.items("pods", NAMESPACE))


def urgent_job(team: str, image: str) -> dict[str, Any]:
    """A Job that asks for the GPU with a higher priority, and keeps it for a few seconds."""
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", "import time; time.sleep(8)"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"restartPolicy": "Never", "securityContext": security, "containers": [container]}
    labels = {"kueue.x-k8s.io/queue-name": QUEUE, "kueue.x-k8s.io/priority-class": "urgent"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "urgent", "namespace": team, "labels": labels},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def _queues(team: str) -> str:
    return f"""
apiVersion: kueue.x-k8s.io/v1beta1
kind: ResourceFlavor
metadata: {{name: default}}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {{name: all}}
spec:
  namespaceSelector: {{}}
  preemption: {{withinClusterQueue: LowerPriority}}
  resourceGroups:
  - coveredResources: [nvidia.com/gpu]
    flavors: [{{name: default, resources: [{{name: nvidia.com/gpu, nominalQuota: 1}}]}}]
---
# What examples/kueue-queue.yaml asks of the cluster.
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {{name: gpus}}
spec:
  namespaceSelector: {{}}
  resourceGroups:
  - coveredResources: [nvidia.com/gpu, cpu, memory]
    flavors:
    - name: default
      resources:
      - {{name: nvidia.com/gpu, nominalQuota: 1}}
      - {{name: cpu, nominalQuota: 2}}
      - {{name: memory, nominalQuota: 4Gi}}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {{name: {QUEUE}, namespace: {team}}}
spec: {{clusterQueue: all}}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: WorkloadPriorityClass
metadata: {{name: urgent}}
value: 1000
"""
