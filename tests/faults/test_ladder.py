"""Each story once without a fault, then once for every fault at every call and every event: the end is the same."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable

import pytest

from alignment_api.names import STAGES
from faults.rig import CALL_FAULTS, EVENT_FAULTS, Fault, FaultKind, Rig, Scenario
from faults.scenarios import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_STATUS_WRITES_MORE = 2
"""A fault may show a state that is otherwise passed through unseen; it must not start a quarrel."""


@functools.cache
def _reference(scenario: Scenario) -> Rig:
    return asyncio.run(Rig(scenario).play())


def _numbers(scenario: Scenario, kind: FaultKind) -> Iterable[int]:
    if scenario.forgets and kind in (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER):
        return ()
    reference = _reference(scenario)
    if kind is FaultKind.STALE:  # only what is read can be stale
        return [number for number, call in enumerate(reference.server.requests, 1) if call[0] == "GET"]
    return range(1, (reference.events if kind in EVENT_FAULTS else reference.calls) + 1)


def _status_writes(rig: Rig) -> int:
    return sum(1 for method, _ in rig.server.requests if method == "PATCH")


@pytest.mark.parametrize("kind", FaultKind, ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_any_single_fault_leads_to_the_same_end(scenario: Scenario, kind: FaultKind) -> None:
    reference = _reference(scenario)
    outcome = reference.outcome()
    for number in _numbers(scenario, kind):
        rig = asyncio.run(Rig(scenario, Fault(kind, number)).play())
        where = f"{scenario.name}: {kind} at {number}"
        assert rig.outcome() == outcome, where
        assert all(abs(rig.preemptions(s) - reference.preemptions(s)) <= 1 for s in STAGES), where
        assert rig.created_jobs() == reference.created_jobs(), where
        assert not rig.server.idle_writes, where
        assert _status_writes(rig) <= _status_writes(reference) + _STATUS_WRITES_MORE, where


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
        ("pods that are deleted, and removed as soon as they end", "Published"),
        ("bad data", "DataInvalid"),
        ("bad data whose pod is removed", "DataInvalid"),
        ("too many failures", "StageFailed"),
        ("suspended and resumed", "Published"),
        ("suspended while it waits for room", "Published"),
        ("held and approved", "Published"),
        ("Job deleted by hand", "Published"),
        ("preempted by its queue", "Published"),
        ("a gang, one of which is drained", "Published"),
        ("a gang that breaks because one of it is drained", "Published"),
        ("a node that dies", "Published"),
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
