"""Recording rules and alerts: promtool accepts them, each alert fires and stays silent, each has its page entry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.docsgen.values import keys

from alignment_operator.series import SERIES
from support.documents import ROOT
from support.prometheus import promtool

CHART = ROOT / "charts" / "alignment-operator"
RULES = CHART / "files" / "rules.yaml"
CASES = sorted((ROOT / "tests" / "data" / "prometheus").glob("alerts*_test.yaml"))
"""By how often the rules are evaluated."""


def groups() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return loaded


ALERTS = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
RECORDED = [rule for group in groups() for rule in group["rules"] if "record" in rule]
NAMED = [rule["alert"] for rule in ALERTS]


def read_per_run(rule: dict[str, Any]) -> set[str]:
    """The series of single runs that a rule reads."""
    words = set(re.findall(r"\w+", rule["expr"]))
    return {series.name for series in SERIES if series.per_run and series.name in words}


def test_promtool_accepts_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_every_alert_fires_and_stays_silent(file: Path, tmp_path: Path) -> None:
    # promtool wants the rendered texts repeated; what is tested here is when an alert fires, so they are left out.
    bare = {"groups": groups()}
    for group in bare["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    cases = yaml.safe_load(file.read_text(encoding="utf-8"))
    cases["rule_files"] = ["rules.yaml"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare), encoding="utf-8")
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    promtool("test", "rules", tmp_path / "cases.yaml")


@pytest.mark.parametrize("alert", NAMED)
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    cases = [case for file in CASES for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    found = [case for test in cases for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert any(case.get("exp_alerts") for case in found), f"{alert} never fires"
    assert any(not case.get("exp_alerts") for case in found), f"{alert} is never silent"


@pytest.mark.parametrize("rule", ALERTS, ids=NAMED)
def test_an_alert_tells_a_person_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert f"### {rule['alert']}\n" in text, f"docs/{page} needs an entry for {rule['alert']}"


def test_rules_read_only_series_that_the_operator_exports() -> None:
    exported = {series.name for series in SERIES}
    read = set(re.findall(r"\balignment_\w+", "".join(r["expr"] for g in groups() for r in g["rules"])))
    assert {name.removesuffix("_bucket") for name in read} <= exported


def test_what_is_recorded_is_read() -> None:
    for name in (rule["record"] for rule in RECORDED):
        assert any(name in alert["expr"] for alert in ALERTS), f"nobody reads {name}"


def test_nothing_is_recorded_by_run() -> None:
    for rule in RECORDED:
        assert not read_per_run(rule), f"{rule['record']} would be one series more for each run"


def test_what_needs_the_series_per_run_is_said_where_they_are_switched_off() -> None:
    needing = {alert["alert"] for alert in ALERTS if read_per_run(alert)}
    assert needing
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    (comment,) = [sentence for path, _, sentence in keys(values) if path == "metrics.perRun"]
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    (paragraph,) = [part for part in page.split("\n\n") if "`metrics.perRun: false`" in part]
    for text in (comment, paragraph):
        assert set(re.findall(r"Alignment[A-Z]\w+", text)) == needing
