"""Recording rules and alerts: promtool accepts them, each alert fires and stays silent, each has its page entry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.dashboards.__main__ import DASHBOARDS

from alignment_operator.series import SERIES
from support.documents import ROOT
from support.prometheus import required

RULES = ROOT / "charts" / "alignment-operator" / "files" / "rules.yaml"
CASES = ROOT / "tests" / "data" / "prometheus" / "alerts_test.yaml"


def groups() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return loaded


ALERTS = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
NAMED = [rule["alert"] for rule in ALERTS]


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [required("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_every_alert_fires_and_stays_silent(tmp_path: Path) -> None:
    # promtool wants the rendered texts repeated; what is tested here is when an alert fires, so they are left out.
    bare = {"groups": groups()}
    for group in bare["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    cases["rule_files"] = ["rules.yaml"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare), encoding="utf-8")
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    promtool("test", "rules", tmp_path / "cases.yaml")


@pytest.mark.parametrize("alert", NAMED)
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    found = [case for test in cases for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert any(case.get("exp_alerts") for case in found), f"{alert} never fires in {CASES.name}"
    assert any(not case.get("exp_alerts") for case in found), f"{alert} is never silent in {CASES.name}"


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
    expressions = [rule["expr"] for group in groups() for rule in group["rules"]]
    expressions += [
        target["expr"]
        for build in DASHBOARDS.values()
        for panel in build()["panels"]
        for target in panel.get("targets", ())
    ]
    for name in (rule["record"] for group in groups() for rule in group["rules"] if "record" in rule):
        assert any(name in expression for expression in expressions), f"nobody reads {name}"
