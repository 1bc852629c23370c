"""Install the project's chart, with images of this checkout, into a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.cluster.kubectl import Kubectl

__all__ = ["CHART", "NAMESPACE", "RELEASE", "install", "uninstall", "values"]

Json = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "alignment-operator"
NAMESPACE = "alignment-operator"
RELEASE = "alignment-operator"


def install(
    kubectl: Kubectl,
    values: Json,
    *,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    chart: Path = CHART,
) -> None:
    """Install or upgrade, and wait until the operator is ready."""
    where = ["--namespace", namespace, "--create-namespace", "--wait", "--timeout", "180s"]
    flags = ["--reset-values", "--values", "-"]
    kubectl.helm("upgrade", "--install", release, str(chart), *where, *flags, text=json.dumps(values))


def uninstall(kubectl: Kubectl, release: str = RELEASE, namespace: str = NAMESPACE) -> None:
    """Uninstall and wait until the operator's pods are gone."""
    kubectl.helm("uninstall", release, "--namespace", namespace, "--ignore-not-found")
    selector = f"app.kubernetes.io/instance={release}"
    kubectl("-n", namespace, "wait", "--for=delete", "pod", "-l", selector, "--timeout=90s")


def values(operator: str, trainer: str) -> Json:
    """The chart's values for images of this checkout, in a cluster for tests."""
    return {
        "image": _image(operator),
        # One thread per pod: several run side by side on few cores. No GPU: those that tests let a node advertise are
        # not there, and the trainer would rightly refuse to train without those that it was promised.
        "trainer": {"image": _image(trainer), "env": {"OMP_NUM_THREADS": "1", "ALIGNMENT_GPUS": "0"}},
        "operator": {"progressSeconds": 2},
    }


def _image(image: str) -> Json:
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}
