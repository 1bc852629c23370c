"""Every query of the dashboards returns data from a real Prometheus that scrapes a real operator and a running stage."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.dashboards.__main__ import DASHBOARDS
from tools.dashboards.panels import substituted

from alignment_api.evidence import CriterionEvidence, Evidence, MetricResult
from alignment_api.metrics import MetricName
from alignment_api.names import PLURAL, StageName
from alignment_api.spec import Criterion
from alignment_api.stage import StageRequest, StageResult
from alignment_operator.summary import TOLD
from alignment_trainer.runtime.progress import ProgressReporter
from alignment_trainer.runtime.server import PROGRESS_ADDRESS, serve
from support import runs
from support.apihttp import HttpApi, serving_api
from support.apiserver import ApiServer
from support.documents import ROOT
from support.kubelet import Kubelet
from support.operator_process import operating, stepping
from support.prometheus import Prometheus, promtool, required, running

pytestmark = pytest.mark.slow

RULES = ROOT / "charts" / "alignment-operator" / "files" / "rules.yaml"
LIMITS: dict[MetricName, dict[str, float]] = {
    MetricName.EDIT_BURDEN: {"maximum": 0.0},
    MetricName.WIN_RATE: {"minimum": 0.5},
    MetricName.PREFERENCE_ACCURACY: {"minimum": 0.5},
}
CRITERIA = tuple(
    Criterion.model_validate({"name": str(metric).lower(), "metric": metric, **limit})
    for metric, limit in LIMITS.items()
)
TARGET = "s3://models/notes/aliases/champion"


@dataclass
class World:
    """Everything that runs."""

    prometheus: Prometheus
    api: HttpApi
    kubelet: Kubelet

    def apply(self, name: str) -> None:
        judge = {"type": "RewardModel", "uri": "s3://judges/notes/"}
        gate = {"criteria": [criterion.to_wire() for criterion in CRITERIA]}
        manifest = runs.manifest(name, gate=gate, evaluation={"judge": judge})
        manifest["metadata"] = {"name": name, "namespace": "team"}
        self.api.locked(lambda: self.api.server.create(PLURAL, manifest))

    def until(self, name: str, reason: str) -> None:
        def so() -> bool:
            run = self.api.server.get((PLURAL, "team", name))
            conditions = (run.get("status") or {}).get("conditions") or ()
            return any(c["type"] == "Succeeded" and c["reason"] == reason for c in conditions)

        self.api.until(so, 90)


def answer(request: StageRequest) -> StageResult:
    """What stages report: every exported metric, and a failed gate for the run that is called so."""
    extra: dict[str, Any] = {}
    if request.stage is StageName.EVALUATE:
        low, high = (-0.2, -0.1) if request.run.name != "refused" else (0.1, 0.2)
        extra["evidence"] = Evidence(
            criteria=tuple(
                CriterionEvidence(
                    criterion=criterion,
                    estimate=0.7 if criterion.upwards else (low + high) / 2,
                    low=0.6 if criterion.upwards else low,
                    high=0.8 if criterion.upwards else high,
                    alpha=0.05,
                    n=100,
                    clusters=50,
                )
                for criterion in CRITERIA
            )
        )
        extra["metrics"] = tuple(
            MetricResult(
                name=name,
                estimate=-0.1 if name is MetricName.EDIT_BURDEN else 0.7,
                low=-0.2 if name is MetricName.EDIT_BURDEN else 0.6,
                high=-0.05 if name is MetricName.EDIT_BURDEN else 0.8,
                n=100,
                clusters=50,
            )
            for name in TOLD
        )
    return runs.result(request.stage, request, **extra)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    required("prometheus")
    folder = tmp_path_factory.mktemp("monitoring")
    # The operator reads progress from port 8081 of a pod's address: one of the loopback's many is this test's own.
    address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(2, 254)}"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROGRESS_ADDRESS, f"{address}:8081")
        reporter = ProgressReporter(StageName.TRAIN, None)
        reporter.update(3, 10, activity="DPO", metrics={"loss": 0.61, "rewards/margins": 0.2})
        stack.enter_context(serve(reporter))
        api = stack.enter_context(serving_api(ApiServer(), folder))
        kubelet = Kubelet(api.server, answer=answer, ip=address)
        stack.enter_context(stepping(api, kubelet))
        operator = stack.enter_context(operating(folder, api, progress_seconds="0.5"))
        targets = {"alignment-operator": [operator], "alignment-stages": [f"{address}:8081"]}
        labels = {"alignment-stages": {"namespace": "team", "pod": "at-work-train-1-0"}}
        prometheus = stack.enter_context(running(folder, targets, [RULES], labels=labels))
        world = World(prometheus, api, kubelet)
        prometheus.wait("alignment_operator_leader == 1")  # rates need a scrape from before anything happened
        for name, end in (("published", "Published"), ("refused", "GateFailed")):
            world.apply(name)
            world.until(name, end)
        kubelet.script["train"] = ["hold"]
        world.apply("at-work")
        world.until("at-work", "Training")
        yield world


def asked(expression: str) -> str:
    return substituted(expression, TARGET, rates_over="5m")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_empty_where_nothing_is_scraped(tmp_path: Path, name: str) -> None:
    queries = [
        target["expr"] for panel in DASHBOARDS[name]()["panels"] for target in panel.get("targets", ())
    ]
    nothing = [{"expr": asked(query), "eval_time": "10m"} for query in queries]
    cases = {"tests": [{"interval": "1m", "input_series": [], "promql_expr_test": nothing}]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    promtool("test", "rules", tmp_path / "cases.yaml")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_a_dashboard_returns_data(world: World, name: str) -> None:
    world.prometheus.wait("alignment_run_progress_ratio > 0.2")
    for panel in DASHBOARDS[name]()["panels"]:
        for target in panel.get("targets", ()):
            found = world.prometheus.wait(asked(target["expr"]))
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                nameless = [row["metric"] for row in found if not row["metric"].get(label)]
                assert not nameless, f"{panel['title']}: a line without a name: {nameless}"
    for choice in DASHBOARDS[name]()["templating"]["list"]:
        if choice["type"] == "query":
            series = choice["query"]["query"].removeprefix("label_values(").rpartition(",")[0]
            assert world.prometheus.wait(asked(series)), choice["name"]


def test_the_recorded_story_is_the_one_that_happened(world: World) -> None:
    def one(expression: str) -> dict[str, Any]:
        (found,) = world.prometheus.wait(expression)
        return found

    assert one("alignment_target_champion_info")["metric"]["name"] == "published"
    assert one("alignment_target_newest_info")["metric"]["reason"] == "GateFailed"
    assert one("alignment_target_failed_verdicts > 0")["value"][1] == "1"
    at_work = one('alignment_run_condition_timestamp_seconds{name="at-work"}')
    assert at_work["metric"]["reason"] == "Training"
    first = one("alignment_target_first_run_timestamp_seconds")
    assert 0 < float(first["value"][1]) <= float(at_work["value"][1])


def test_a_run_has_ten_series_at_most_and_takes_them_along(world: World) -> None:
    world.apply("short-lived")
    world.until("short-lived", "Published")
    # What rules record of a run counts as well.
    count = 'count by (name) ({__name__=~"alignment(_run_|:).*", namespace="team", name!=""})'
    world.prometheus.wait(f'{count} and on (name) alignment_run_gate_threshold{{name="short-lived"}}')
    assert all(float(row["value"][1]) <= 10 for row in world.prometheus.query(count))
    world.api.locked(lambda: world.api.server.remove((PLURAL, "team", "short-lived")))
    world.prometheus.wait(
        'alignment_operator_leader unless on () {__name__=~"alignment_.+", name="short-lived"}'
    )


def test_the_stage_in_work_is_told_by_kind_and_step(world: World) -> None:
    (row,) = world.prometheus.wait('alignment_run_progress_ratio{name="at-work"} > 0')
    assert (row["metric"]["stage"], float(row["value"][1])) == ("train", 0.3)
