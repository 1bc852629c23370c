"""What the chart makes of rules and dashboards: the same content, where Prometheus and Grafana look for it."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import yaml
from tools.cluster.binaries import Unavailable
from tools.docsgen.values import keys

from support import helm
from support.documents import ROOT, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ON = {
    "metrics": {
        name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboards")
    }
}


@pytest.fixture(scope="module", params=["3", "4"])
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    try:
        program = helm.helms()[request.param]
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs Helm: {reason}")
        pytest.skip(f"no Helm: {reason}")
    return helm.render(helm=program, values=ON)


def of(kind: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def test_the_rules_are_those_that_promtool_tests(rendered: list[dict[str, Any]]) -> None:
    (rule,) = of("PrometheusRule", rendered)
    plain = yaml.safe_load((helm.CHART / "files" / "rules.yaml").read_text(encoding="utf-8"))
    assert rule["spec"] == plain


def test_dashboards_come_as_config_maps_that_grafanas_sidecar_finds(rendered: list[dict[str, Any]]) -> None:
    maps = of("ConfigMap", rendered)
    files = {path.name: path for path in (helm.CHART / "dashboards").glob("*.json")}
    assert {name for item in maps for name in item["data"]} == set(files)
    for item in maps:
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        for name, text in item["data"].items():
            assert json.loads(text) == json.loads(files[name].read_text(encoding="utf-8"))
            assert len(text) < 1_000_000  # a ConfigMap's limit, with room for its metadata


def test_stages_are_scraped_in_the_namespaces_of_their_runs(rendered: list[dict[str, Any]]) -> None:
    (monitor,) = of("PodMonitor", rendered)
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "progress"
    (named,) = of("PodMonitor", helm.render(values={**ON, "watchNamespaces": ["a"]}))
    assert named["spec"]["namespaceSelector"] == {"matchNames": ["a"]}


def test_nothing_of_it_is_there_unless_asked_for() -> None:
    kinds = {document["kind"] for document in helm.render()}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}


@pytest.mark.parametrize(("page", "key"), [("monitoring.md", "metrics"), ("install.md", "image")])
def test_values_shown_in_the_documentation_are_accepted(page: str, key: str) -> None:
    shown = [yaml.safe_load(block.text) for block in blocks("yaml", ROOT / "docs" / page)]
    assert [values for values in shown if key in values]
    for values in (found for found in shown if "scrape_configs" not in found):
        assert helm.render(values=values)


def test_the_page_of_values_names_every_value() -> None:
    def paths(node: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for name, value in node.items():
            nested = isinstance(value, dict) and value and set(value) - {"cpu", "memory", "grafana_dashboard"}
            found |= paths(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}"}
        return found

    text = (helm.CHART / "values.yaml").read_text(encoding="utf-8")
    assert paths(yaml.safe_load(text)) <= {path for path, _, _ in keys(text)}
