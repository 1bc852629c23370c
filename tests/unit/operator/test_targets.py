"""What is told per alias, and how much is told per run: bounded, and gone with the run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alignment_api.names import STAGES
from alignment_operator.metrics import Metrics, OperatorState
from alignment_operator.records import RunRecord, run_record
from alignment_operator.series import MAXIMUM_PER_RUN, SERIES
from alignment_operator.summary import FATES, TOLD
from alignment_operator.targets import target_rows
from support import runs

TARGET = ("team", "s3://models/notes/aliases/champion")


def run(
    name: str = "notes-1",
    *,
    day: int = 1,
    reason: str = "Published",
    status: str = "True",
    accuracy: float | None = 0.7,
    **spec: Any,
) -> RunRecord:
    """A run that ended on a day of January, of as full a status as there is."""
    raw = runs.manifest(name, **spec)
    made, ended = f"2026-01-{day:02d}T10:00:00Z", f"2026-01-{day:02d}T12:00:00Z"
    raw["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": str(day), "creationTimestamp": made}
    metrics = [
        {"name": str(metric), "estimate": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
        for metric in TOLD
        if accuracy is not None
    ]
    raw["status"] = {
        "conditions": [
            {"type": "Succeeded", "status": status, "reason": reason, "lastTransitionTime": ended}
        ],
        "stages": [{"name": str(stage), "endTime": ended, "runningSeconds": 60.0} for stage in STAGES],
        "metrics": metrics,
        "data": {
            "rows": 110,
            "pairs": 100,
            "train": 80,
            "holdout": 20,
            "dropped": {"joined": 7, "tooLong": 3},
        },
    }
    if status == "Unknown":
        raw["status"]["progress"] = {"stage": "train", "step": 1, "steps": 3, "percent": 33}
    if accuracy is not None:
        criterion = {
            "name": "edits",
            "metric": "editBurden",
            "result": "Passed",
            "limit": -0.005,
            "estimate": -0.1,
        }
        raw["status"]["verdict"] = {"result": "Passed", "criteria": [criterion]}
    return run_record(raw)


def told(members: Iterable[RunRecord], series: str) -> dict[tuple[str, ...], float]:
    rows = target_rows(members)[f"alignment_target_{series}"]
    assert all(labels[:2] == TARGET for labels, _ in rows)
    return {labels[2:]: value for labels, value in rows}


def test_the_newest_run_is_told_beside_the_last_published_one() -> None:
    members = [
        run("a", day=1, accuracy=0.8),
        run("b", day=2, reason="GateFailed", status="False", accuracy=0.6),
        run("c", day=3, reason="StageFailed", status="False", accuracy=None),
    ]
    metric = told(members, "metric")
    assert metric["newest", "preferenceAccuracy", "estimate"] == 0.6
    assert metric["published", "preferenceAccuracy", "estimate"] == 0.8
    assert told(members, "champion_info") == {("a",): 1.0}
    assert told(members, "newest_info") == {("c", "StageFailed"): 1.0}


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        ("", 0),
        ("P", 0),
        ("F", 1),
        ("FFF", 3),
        ("FFP", 0),
        ("PFF", 2),
        ("FIF", 1),
        ("FSF", 2),
    ],
)
def test_failed_verdicts_are_counted_back_to_the_last_other_verdict(ends: str, count: int) -> None:
    reasons = {"P": "Published", "F": "GateFailed", "I": "GateInconclusive", "S": "StageFailed"}
    members = [
        run(f"r{day}", day=day, reason=reasons[end], status="True" if end == "P" else "False")
        for day, end in enumerate(ends, start=1)
    ]
    members.append(run("now", day=20, reason="Training", status="Unknown", accuracy=None))
    assert told(members, "failed_verdicts") == {(): float(count)}


def test_every_row_meets_one_fate() -> None:
    rows = told([run()], "rows")
    assert set(rows) == {(fate,) for fate in FATES}
    assert rows["dropped",] == 10
    assert sum(rows.values()) == 110


def test_the_cadence_is_what_the_error_budget_plans() -> None:
    assert told([run()], "cadence_seconds") == {(): pytest.approx(365 * 86400 / 52)}
    daily = run(gate={"errorBudget": {"decisionsPerYear": 365}})
    assert told([daily], "cadence_seconds") == {(): pytest.approx(86400)}


def test_the_first_run_is_the_oldest_that_exists() -> None:
    members = [run("b", day=2), run("a", day=1, reason="GateFailed", status="False")]
    first = datetime(2026, 1, 1, 10, tzinfo=UTC).timestamp()
    assert told(members, "first_run_timestamp_seconds") == {(): first}
    assert told(members[:1], "first_run_timestamp_seconds") == {(): first + 86400}


def test_the_limit_is_that_of_the_verdict_also_where_the_spec_names_none() -> None:
    assert told([run()], "gate_threshold") == {("editBurden",): -0.005}
    assert "alignment_target_gate_threshold" not in target_rows([run(accuracy=None)])


def state(members: list[RunRecord]) -> OperatorState:
    """An operator that holds these runs."""
    values: dict[str, float | dict[str, float]] = {
        "alignment_operator_leader": 1.0,
        "alignment_operator_workqueue_depth": 0.0,
        "alignment_operator_workqueue_oldest_seconds": 0.0,
        "alignment_operator_watch_lag_seconds": {"jobs": 0.0},
        "alignment_operator_last_resync_timestamp_seconds": 1.0,
        "alignment_operator_unlisted_namespaces": 0.0,
    }
    return OperatorState(tuple(members), values)


def scrape(members: list[RunRecord], *, per_run: bool = True) -> list[tuple[str, dict[str, str]]]:
    text = Metrics(per_run=per_run).render(state(members)).decode()
    return [(s.name, s.labels) for family in text_string_to_metric_families(text) for s in family.samples]


def test_a_run_has_at_most_ten_series_and_takes_them_along() -> None:
    limit = {"criteria": [{"name": "edits", "metric": "editBurden", "maximum": 0.0}]}
    members = [run(f"r{day}", day=day, gate=limit) for day in range(1, 21)]
    members.append(run("now", day=25, reason="Training", status="Unknown", accuracy=None))
    per_run = {series.name for series in SERIES if series.per_run}
    counts = Counter(labels["name"] for name, labels in scrape(members) if name in per_run)
    assert set(counts) == {member.key.name for member in members}
    assert max(counts.values()) == MAXIMUM_PER_RUN == 10
    left = {labels.get("name") for name, labels in scrape(members[1:])}
    assert "r1" not in left
    assert not [name for name, _ in scrape(members, per_run=False) if name in per_run]


def test_label_values_survive_whatever_they_hold() -> None:
    odd = 'file:///models/"quoted"\\back/'
    (info,) = [labels for name, labels in scrape([run(model={"uri": odd})]) if name == "alignment_run_info"]
    assert info["model"] == odd


def test_series_of_a_target_do_not_grow_with_its_runs() -> None:
    def size(count: int) -> int:
        members = [run(f"r{day}", day=day) for day in range(1, count + 1)]
        return len(scrape(members, per_run=False))

    assert size(20) == size(2)


def test_the_table_names_what_a_scrape_gives_and_nothing_else() -> None:
    limit = {"criteria": [{"name": "edits", "metric": "editBurden", "maximum": 0.0}]}
    metrics = Metrics(per_run=True)
    metrics.request("get", "jobs", 200, 0.1)
    metrics.reconciled("done", 0.1)
    members = [run(gate=limit), run("now", day=2, reason="Training", status="Unknown", accuracy=None)]
    text = metrics.render(state(members)).decode()
    families = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    named = {series.name for series in SERIES}
    ours = {
        name for name in families if re.fullmatch(r"alignment_\w+(?<!_created)(?<!_gcount)(?<!_gsum)", name)
    }
    assert ours == named
    for series in SERIES:
        labels = {
            key
            for name, found in scrape(members)
            if name.removesuffix("_bucket") == series.name
            for key in found
        }
        assert labels - {"le"} <= set(series.labels), series.name
