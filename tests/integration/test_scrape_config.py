"""The scrape configuration of the documentation: promtool reads it, and it finds the operator's and the stages' pods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from support.documents import ROOT, blocks
from support.prometheus import promtool

Json = dict[str, Any]
(SHOWN,) = [
    loaded
    for block in blocks("yaml", ROOT / "docs" / "monitoring.md")
    if "scrape_configs" in (loaded := yaml.safe_load(block.text))
]
JOBS: dict[str, Json] = {job["job_name"]: job for job in SHOWN["scrape_configs"]}


def template(path: str) -> Json:
    """The pod template of the golden file's only Deployment or Job."""
    documents = yaml.safe_load_all((ROOT / "tests" / "data" / path).read_text(encoding="utf-8"))
    (found,) = [document for document in documents if document["kind"] in ("Deployment", "Job")]
    pod: Json = found["spec"]["template"]
    return pod


def discovered(pod: Json, phase: str = "Running") -> list[dict[str, str]]:
    """What service discovery by pods says of each declared port."""
    said = {"__meta_kubernetes_namespace": "team", "__meta_kubernetes_pod_name": "one"}
    said["__meta_kubernetes_pod_phase"] = phase
    for name, value in pod["metadata"]["labels"].items():
        plain = re.sub(r"\W", "_", name)
        said[f"__meta_kubernetes_pod_label_{plain}"] = value
        said[f"__meta_kubernetes_pod_labelpresent_{plain}"] = "true"
    return [
        said | {"__meta_kubernetes_pod_container_port_name": port["name"]}
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    ]


def labels(job: str, said: dict[str, str]) -> dict[str, str] | None:
    """Labels that a job's relabelling gives a target; None when it is not scraped."""
    given = {}
    for rule in JOBS[job]["relabel_configs"]:
        value = ";".join(said.get(name, "") for name in rule["source_labels"])
        matches = re.fullmatch(str(rule.get("regex", ".*")), value) is not None
        if rule.get("action") == ("drop" if matches else "keep"):
            return None
        if "target_label" in rule:
            given[rule["target_label"]] = value
    return given


OPERATOR = template("chart/default.yaml")
STAGE = template("jobs/full-train.yaml")


def test_promtool_accepts_it(tmp_path: Path) -> None:
    # Debian's build of promtool cannot ask an API server, and refuses what would.
    plain = [
        {key: value for key, value in job.items() if key != "kubernetes_sd_configs"} for job in JOBS.values()
    ]
    config = tmp_path / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"scrape_configs": plain}), encoding="utf-8")
    assert "SUCCESS" in promtool("check", "config", config)


def test_each_pod_is_found_once_by_the_job_that_is_meant() -> None:
    for job, mine, other in (
        ("alignment-operator", OPERATOR, STAGE),
        ("alignment-stages", STAGE, OPERATOR),
    ):
        assert JOBS[job]["kubernetes_sd_configs"] == [{"role": "pod"}]
        assert len([said for said in discovered(mine) if labels(job, said) is not None]) == 1, job
        assert not [said for said in discovered(other) if labels(job, said) is not None], job


def test_series_of_stages_get_the_labels_that_dashboards_read_and_ended_pods_are_left_alone() -> None:
    found = [labels("alignment-stages", said) for said in discovered(STAGE)]
    assert {"namespace": "team", "pod": "one"} in found
    ended = [labels("alignment-stages", said) for said in discovered(STAGE, "Succeeded")]
    assert ended == [None] * len(ended)


def test_labels_of_runs_are_kept() -> None:
    assert JOBS["alignment-operator"]["honor_labels"] is True
