"""Each story once without a fault, then once for every fault at every call and every event: the end is the same."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable

import pytest

from faults.rig import CALL_FAULTS, EVENT_FAULTS, Fault, FaultKind, Rig, Scenario
from faults.scenarios import POD_DELETED, SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_STATUS_WRITES_MORE = 2
"""A fault may show a state that is otherwise passed through unseen; it must not start a quarrel."""


@functools.cache
def _reference(scenario: Scenario) -> Rig:
    return asyncio.run(Rig(scenario).play())


def _numbers(scenario: Scenario, kind: FaultKind) -> Iterable[int]:
    reference = _reference(scenario)
    return range(1, (reference.events if kind in EVENT_FAULTS else reference.calls) + 1)


def _status_writes(rig: Rig) -> int:
    return sum(1 for method, _ in rig.server.requests if method == "PATCH")


@pytest.mark.parametrize("kind", FaultKind, ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_any_single_fault_leads_to_the_same_end(scenario: Scenario, kind: FaultKind) -> None:
    reference = _reference(scenario)
    for number in _numbers(scenario, kind):
        rig = asyncio.run(Rig(scenario, Fault(kind, number)).play())
        where = f"{scenario.name}: {kind} at {number}"
        assert rig.outcome() == reference.outcome(), where
        assert rig.created_jobs() == reference.created_jobs(), where
        assert not rig.server.idle_writes, where
        assert _status_writes(rig) <= _status_writes(reference) + _STATUS_WRITES_MORE, where


@pytest.mark.parametrize("kind", [k for k in FaultKind if not k.startswith("crash")], ids=str)
def test_deleting_a_pod_costs_no_attempt_though_its_job_fails_after_it_is_gone(kind: FaultKind) -> None:
    for number in _numbers(POD_DELETED, kind):
        rig = asyncio.run(Rig(POD_DELETED, Fault(kind, number)).play())
        assert rig.reason == "Published", f"{kind} at {number}"
        assert rig.run is not None
        train = next(stage for stage in rig.run["status"]["stages"] if stage["name"] == "train")
        assert (train.get("failures", 0), train["preemptions"]) == (0, 2), f"{kind} at {number}"


def test_the_ladder_has_enough_rungs() -> None:
    cases = sum(
        len(list(_numbers(scenario, kind)))
        for scenario in SCENARIOS
        for kind in (*CALL_FAULTS, *EVENT_FAULTS)
    )
    assert cases >= 1500


@pytest.mark.parametrize(
    ("name", "ends_with"),
    [
        ("published", "Published"),
        ("gate failed", "GateFailed"),
        ("attempts that fail, are stopped and lose their result", "Published"),
        ("bad data", "DataInvalid"),
        ("too many failures", "StageFailed"),
        ("suspended and resumed", "Published"),
        ("suspended while it waits for room", "Published"),
        ("held and approved", "Published"),
        ("Job deleted by hand", "Published"),
        ("preempted by its queue", "Published"),
        ("a gang, one of which is drained", "Published"),
        ("creation refused twice", "Published"),
        ("deleted while training", ""),
    ],
)
def test_the_stories_end_as_they_should(name: str, ends_with: str) -> None:
    scenario = next(s for s in SCENARIOS if s.name == name)
    rig = _reference(scenario)
    assert rig.reason == ends_with
    if not ends_with:
        assert not [key for key in rig.server.objects if key[0] != "events"], "everything went with the run"
