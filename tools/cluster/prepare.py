"""A cluster with images, S3 server and chart in it, and a note that says how to use it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.cluster import chart, paths, s3
from tools.cluster.kubectl import Kubectl
from tools.cluster.providers import Provider

__all__ = ["Prepared", "prepare", "say"]


@dataclass(frozen=True)
class Prepared:
    """What tests need to know of a prepared cluster."""

    kubectl: str
    helm: str
    kubeconfig: str
    context: str
    operator: str
    trainer: str

    @classmethod
    def read(cls) -> Prepared:
        """The note of the last ``prepare``. Raises OSError where there is none."""
        return cls(**json.loads(_note().read_text(encoding="utf-8")))

    def values(self) -> dict[str, Any]:
        """The chart's values for its images."""
        return chart.values(self.operator, self.trainer)

    def commands(self) -> Kubectl:
        """Kubectl and Helm for it."""
        return Kubectl(Path(self.kubectl), Path(self.helm), self.kubeconfig, self.context)


def prepare(provider: Provider) -> Prepared:
    """Bring everything up; what is up already stays."""
    say("a cluster")
    kubectl = provider.up()
    say("images: operator, trainer, S3 server (minutes the first time)")
    operator, trainer, server = (
        provider.image("operator"),
        provider.image("trainer"),
        provider.program("versitygw"),
    )
    say("the S3 server and the chart")
    s3.install(kubectl, server)
    chart.install(kubectl, chart.values(operator, trainer))
    programs = (str(kubectl.program), str(kubectl.helm_program))
    prepared = Prepared(*programs, kubectl.kubeconfig, kubectl.context, operator, trainer)
    _note().parent.mkdir(parents=True, exist_ok=True)
    _note().write_text(json.dumps(asdict(prepared)), encoding="utf-8")
    return prepared


def say(what: str) -> None:
    """One line of progress."""
    print(f"==> {what}", flush=True)


def _note() -> Path:
    return paths.state() / "prepared.json"
