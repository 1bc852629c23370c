"""A real Prometheus scrapes the operator's pod and a trainer's pod, and the dashboards show the run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cluster.prepare import Prepared
from tools.dashboards.__main__ import DASHBOARDS

from support.cluster import Team, reason
from support.documents import ROOT
from support.embedded import ALWAYS
from support.prometheus import running

RULES = ROOT / "charts" / "alignment-operator" / "files" / "rules.yaml"
NOT_IN_THIS_RUN = ("winRate", "worstCohortAccuracy")
"""It has neither a judge nor cohorts; tests/integration/test_dashboards.py has them all."""

CRITERIA = [*ALWAYS, {"name": "order", "metric": "preferenceAccuracy", "minimum": 0.01}]
"""A gate that any model passes, with a limit for each panel that draws one."""

WHILE_IT_WORKS = (
    "alignment_stage_loss",
    "alignment_stage_rewards",
    "alignment_run_progress_ratio",
    'status="Unknown"',
)
"""Panels about runs in work are empty once the last one has ended."""


@contextmanager
def proxy(prepared: Prepared) -> Iterator[str]:
    """``kubectl proxy``; yields host:port of an API server that knows who asks."""
    kubectl = prepared.commands()
    command = [str(kubectl.program), f"--kubeconfig={prepared.kubeconfig}"]
    command += [f"--context={prepared.context}"] if prepared.context else []
    with subprocess.Popen(
        [*command, "proxy", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().rpartition(" ")[2]
        finally:
            process.terminate()


def test_prometheus_sees_the_operator_and_the_trainer_and_every_panel_has_data(
    notes: Team, prepared: Prepared, tmp_path: Path
) -> None:
    training = {
        "precision": "Float32",
        "maxLength": 256,
        "epochs": 30,
        "pairsPerStep": 8,
        "selectionFraction": 0,
        "learningRate": 1e-5,
    }
    notes.apply(training=training, gate={"criteria": CRITERIA})
    notes.until_so("a trainer runs", lambda: any(p["status"].get("podIP") for p in notes.pods("train")), 300)
    (pod,) = notes.pods("train")
    (operator,) = notes.kubectl.items(
        "pods", "alignment-operator", "app.kubernetes.io/name=alignment-operator"
    )
    with proxy(prepared) as api:
        targets = {
            "alignment-operator": [_path(api, operator["metadata"], 8080)],
            "alignment-stages": [_path(api, pod["metadata"], 8081)],
        }
        with running(tmp_path, targets, [RULES], scrape_seconds=3) as prometheus:
            assert prometheus.wait("alignment_stage_loss > 0", seconds=180)
            assert prometheus.wait(f'alignment_run_progress_ratio{{namespace="{notes.name}"}} > 0')
            live = [
                target["expr"]
                for panel in DASHBOARDS["alignment.json"]()["panels"]
                for target in panel.get("targets", ())
                if any(mark in target["expr"] for mark in WHILE_IT_WORKS)
            ]
            for expression in live:
                assert prometheus.wait(_substituted(expression, ""))
            assert reason(notes.until_ended()) == "Published", notes.story()
            alias = f"s3://{notes.name}/models/aliases/champion"
            for build in DASHBOARDS.values():
                for panel in build()["panels"]:
                    for target in panel.get("targets", ()):
                        expression = target["expr"]
                        if expression in live or any(name in expression for name in NOT_IN_THIS_RUN):
                            continue
                        prometheus.wait(_substituted(expression, alias))
            count = f'count by (name) ({{__name__=~"alignment_run_.*", namespace="{notes.name}"}})'
            assert all(float(row["value"][1]) <= 10 for row in prometheus.wait(count))


def _path(api: str, pod: dict[str, str], port: int) -> str:
    return f"{api}/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}:{port}/proxy/metrics"


def _substituted(expression: str, alias: str) -> str:
    for name, value in (("$namespace", ".*"), ("$target", alias), ("$__rate_interval", "5m")):
        expression = expression.replace(name, value)
    return expression
