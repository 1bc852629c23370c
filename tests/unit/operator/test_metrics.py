"""What a scrape gives, held against the table that the documentation is made from."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alignment_operator.metrics import Metrics, OperatorState
from alignment_operator.records import run_record
from alignment_operator.series import MAXIMUM_PER_RUN, SERIES
from support.objects import run

EVALUATED: dict[str, Any] = {
    "conditions": [
        {
            "type": "Succeeded",
            "status": "True",
            "reason": "Published",
            "lastTransitionTime": "2026-01-05T12:00:00Z",
        }
    ],
    "stages": [{"name": "train", "runningSeconds": 42.0, "endTime": "2026-01-05T12:00:00Z"}],
    "metrics": [
        {"name": "preferenceAccuracy", "selector": "", "estimate": 0.6, "low": 0.55, "high": 0.65},
        {"name": "winRate", "selector": "", "estimate": 0.7, "low": 0.61, "high": 0.78},
    ],
    "verdict": {
        "criteria": [
            {"name": "edits", "metric": "editBurden", "mode": "Blocking", "limit": 0.0, "estimate": -0.07}
        ]
    },
    "data": {"rows": 10, "pairs": 9, "invalid": 1},
}
PUBLISHING: dict[str, Any] = EVALUATED | {
    "conditions": [
        {
            "type": "Succeeded",
            "status": "Unknown",
            "reason": "Publishing",
            "lastTransitionTime": "2026-01-05T11:00:00Z",
        }
    ],
    "progress": {"stage": "publish", "step": 3, "steps": 4, "percent": 75},
}
GATE = {"criteria": [{"name": "edits", "metric": "editBurden", "maximum": 0.0}]}

VALUES: dict[str, float | dict[str, float]] = {
    "alignment_operator_leader": 1.0,
    "alignment_operator_workqueue_depth": 2.0,
    "alignment_operator_workqueue_oldest_seconds": 0.5,
    "alignment_operator_watch_lag_seconds": {"jobs": 0.0},
    "alignment_operator_last_resync_timestamp_seconds": 1.0,
    "alignment_operator_unlisted_namespaces": 0.0,
}


def state(*runs: dict[str, Any]) -> OperatorState:
    return OperatorState(tuple(run_record(raw) for raw in runs), VALUES)


def scrape(*runs: dict[str, Any], per_run: bool = True) -> str:
    metrics = Metrics(per_run=per_run)
    metrics.request("create", "jobs", 201, 0.01)
    metrics.reconciled("done", 0.01)
    return metrics.render(state(*runs)).decode()


def values(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_a_scrape_gives_exactly_what_the_table_lists() -> None:
    running = run(6, name="second", uid="run-2", status=PUBLISHING)
    text = scrape(run(5, status=EVALUATED, gate=GATE), running)
    own = [line for line in text.splitlines() if line.startswith("# TYPE alignment_")]
    told = {line.split()[2] for line in own}
    suffixes = ("_created", "_gcount", "_gsum")
    assert {name for name in told if not name.endswith(suffixes)} == {series.name for series in SERIES}


def test_labels_are_those_of_the_table() -> None:
    listed = {series.name: set(series.labels) for series in SERIES}
    for family in text_string_to_metric_families(scrape(run(5, status=EVALUATED, gate=GATE))):
        for sample in family.samples:
            name = sample.name if sample.name in listed else re.sub(r"_(bucket|count|sum)$", "", sample.name)
            if name in listed:
                assert set(sample.labels) - {"le"} == listed[name], sample.name


def test_values_come_from_the_status() -> None:
    found = values(scrape(run(5, status=EVALUATED, gate=GATE)))
    where = "name=notes,namespace=team"
    assert found[f"alignment_run_win_rate_ratio{{{where}}}"] == 0.7
    assert found[f"alignment_run_win_rate_confidence_low_ratio{{{where}}}"] == 0.61
    assert found[f"alignment_run_preference_accuracy_confidence_high_ratio{{{where}}}"] == 0.65
    assert found[f"alignment_run_gate_estimate{{metric=editBurden,{where}}}"] == -0.07
    assert found[f"alignment_run_gate_threshold{{metric=editBurden,{where}}}"] == 0.0
    ended = (
        f"alignment_run_condition_timestamp_seconds{{{where},reason=Published,status=True,type=Succeeded}}"
    )
    assert found[ended] == 1767614400.0
    assert found["alignment_runs{namespace=team,reason=Published,status=True}"] == 1.0
    assert found["alignment_stage_duration_seconds_bucket{le=60,stage=train}"] == 1.0
    assert found["alignment_stage_duration_seconds_bucket{le=30,stage=train}"] == 0.0
    target = "s3://models/notes/aliases/champion"
    last = found[f"alignment_publish_last_success_timestamp_seconds{{namespace=team,target={target}}}"]
    assert last == 1767614400.0


def test_a_publish_tells_how_far_it_is_in_place_of_its_gate() -> None:
    found = values(scrape(run(5, status=PUBLISHING, gate=GATE)))
    assert found["alignment_run_progress_ratio{name=notes,namespace=team,stage=publish}"] == 0.75
    assert not [name for name in found if name.startswith("alignment_run_gate_")]


def test_a_run_that_was_not_looked_at_has_no_time_of_its_condition() -> None:
    assert "alignment_run_condition_timestamp_seconds{" not in scrape(run(5))


@pytest.mark.parametrize("status", [EVALUATED, PUBLISHING], ids=["published", "publishing"])
def test_no_run_has_more_series_than_promised(status: dict[str, Any]) -> None:
    text = scrape(run(5, status=status, gate=GATE))
    per_run = {series.name for series in SERIES if series.per_run}
    names = [line.split("{")[0] for line in text.splitlines() if line.startswith("alignment_run_")]
    assert set(names) <= per_run
    assert len(names) <= MAXIMUM_PER_RUN
    assert max(Counter(names).values()) == 1


def test_series_per_run_can_be_switched_off() -> None:
    text = scrape(run(5, status=EVALUATED), per_run=False)
    assert "alignment_run_" not in text
    assert "alignment_runs{" in text


def test_a_deleted_run_leaves_nothing_behind() -> None:
    metrics = Metrics(per_run=True)
    assert 'name="notes"' in metrics.render(state(run(5))).decode()
    assert 'name="notes"' not in metrics.render(state()).decode()
