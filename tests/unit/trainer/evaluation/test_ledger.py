"""The holdout is spent: each decision reserves its share once, whoever comes first, and the year is never overdrawn."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alignment_api.spec import AlignmentRunSpec
from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.evaluation.ledger import ledger_uri, reserve
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.store import Absent, Condition, ConditionFailed, ObjectInfo
from support.runs import run

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def spec_in(folder: Path, *, salt: str = "v1", alias: str = "champion", **budget: Any) -> AlignmentRunSpec:
    return run(
        artifacts={"uri": folder.as_uri() + "/"},
        publish={"uri": "s3://models/notes/", "alias": alias},
        data={"sources": [{"uri": "s3://f/*.jsonl"}], "holdout": {"salt": salt}},
        gate={"errorBudget": budget} if budget else {},
    ).spec


def entries(spec: AlignmentRunSpec) -> list[dict[str, Any]]:
    data, _ = LocalStore().get(ledger_uri(spec))
    found: list[dict[str, Any]] = json.loads(data)["entries"]
    return found


def test_a_decision_gets_its_equal_share_and_leaves_a_trace(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    got = reserve(spec, "run-1", LocalStore(), NOW)
    assert got.alpha.value == pytest.approx(0.05 / 52)
    assert (got.decisions, got.spent) == (1, pytest.approx(0.05 / 52))
    assert [e["runUid"] for e in entries(spec)] == ["run-1"]
    assert got.to_wire()["ledger"] == ledger_uri(spec)


def test_a_retry_finds_its_own_entry_and_spends_nothing(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    first = reserve(spec, "run-1", LocalStore(), NOW)
    again = reserve(spec, "run-1", LocalStore(), NOW + timedelta(hours=2))
    assert again == first
    assert len(entries(spec)) == 1


def test_a_growing_holdout_is_one_holdout_and_a_new_salt_is_a_new_one(tmp_path: Path) -> None:
    assert ledger_uri(spec_in(tmp_path)) == ledger_uri(spec_in(tmp_path))
    others = [spec_in(tmp_path, salt="v2"), spec_in(tmp_path, alias="beta")]
    assert len({ledger_uri(s) for s in [spec_in(tmp_path), *others]}) == 3


def test_the_year_is_never_overdrawn_and_the_refusal_says_when_it_is_free(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, perYear=0.05, decisionsPerYear=3)
    for number in range(3):
        assert reserve(spec, f"run-{number}", LocalStore(), NOW + timedelta(days=number)).alpha.value
    spent = reserve(spec, "run-3", LocalStore(), NOW + timedelta(days=9))
    assert spent.alpha.value is None
    assert "spent by 3 decisions within a year; the next is free on 2027-03-01" in str(spent.alpha.message)
    assert len(entries(spec)) == 3
    assert reserve(spec, "run-3", LocalStore(), NOW + timedelta(days=366)).alpha.value


def test_a_decision_outside_the_budget_is_entered_and_every_later_report_tells_of_it(tmp_path: Path) -> None:
    free = spec_in(tmp_path, mode="Unlimited", reason="a sandbox")
    for uid in ("run-1", "run-2", "run-2"):
        got = reserve(free, uid, LocalStore(), NOW)
        assert got.alpha.value == 1.0
        assert "a sandbox" in str(got.alpha.message)
    assert [(e["runUid"], e.get("alpha")) for e in entries(free)] == [("run-1", None), ("run-2", None)]
    limited = reserve(spec_in(tmp_path), "run-3", LocalStore(), NOW)
    assert limited.alpha.value == pytest.approx(0.05 / 52)
    assert (limited.decisions, limited.outside, limited.spent) == (3, 2, pytest.approx(0.05 / 52))
    told = limited.to_wire()
    assert (told["mode"], told["outside"]) == ("Limited", 2)


def test_a_larger_budget_in_one_run_counts_against_the_others(tmp_path: Path) -> None:
    greedy = spec_in(tmp_path, perYear=0.05, decisionsPerYear=1)
    assert reserve(greedy, "run-1", LocalStore(), NOW).alpha.value == pytest.approx(0.05)
    modest = spec_in(tmp_path, perYear=0.05, decisionsPerYear=52)
    assert reserve(modest, "run-2", LocalStore(), NOW).alpha.value is None


def test_decisions_at_the_same_moment_each_get_one_entry(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, perYear=0.05, decisionsPerYear=10)
    start = threading.Barrier(8)
    got: dict[str, Any] = {}

    def decide(number: int) -> None:
        start.wait()
        uid = f"run-{number // 2}"  # two attempts of each of four runs
        got[f"{uid}/{number}"] = reserve(spec, uid, LocalStore(), NOW).alpha.value

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(e["runUid"] for e in entries(spec)) == [f"run-{n}" for n in range(4)]
    assert set(got.values()) == {0.005}


def test_the_last_share_goes_to_one_of_those_who_want_it(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, perYear=0.04, decisionsPerYear=2)
    reserve(spec, "first", LocalStore(), NOW)
    start = threading.Barrier(6)
    got: list[float | None] = []

    def decide(number: int) -> None:
        start.wait()
        got.append(reserve(spec, f"run-{number}", LocalStore(), NOW).alpha.value)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(value for value in got if value is not None) == [0.02]
    assert sum(e["alpha"] for e in entries(spec)) <= 0.04 + 1e-12


class Lossy(LocalStore):
    """Stores the ledger and then says that it was not stored: the answer got lost and the retry met its own write."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        info = super().put(uri, data, condition=condition)
        if b"entries" in data and not self.lost:
            self.lost += 1
            raise ConditionFailed(uri)
        return info


def test_a_lost_answer_does_not_spend_twice(tmp_path: Path) -> None:
    spec, store = spec_in(tmp_path), Lossy()
    assert reserve(spec, "run-1", store, NOW).alpha.value
    assert store.lost == 1
    assert len(entries(spec)) == 1


class Busy(LocalStore):
    """Someone else always wins."""

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        if b"entries" in data:
            raise ConditionFailed(uri)
        return super().put(uri, data, condition=condition)


def test_losing_every_race_is_for_a_new_attempt(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="kept changing"):
        reserve(spec_in(tmp_path), "run-1", Busy(), NOW)


def test_a_damaged_ledger_stops_the_decision_instead_of_starting_anew(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    LocalStore().put(ledger_uri(spec), b'{"entries": 3}', condition=Absent())
    with pytest.raises(RequestError, match="not a ledger") as caught:
        reserve(spec, "run-1", LocalStore(), NOW)
    assert caught.value.reason == "LedgerInvalid"
