"""The gate in the plan: verdicts, decisions of people, champions that move."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api.conditions import ConditionType, Reason
from alignment_api.names import STAGES
from alignment_api.status import ProgressStatus
from support.runs import FAILED, INCONCLUSIVE, at, run

from .world import APPROVE, REJECT, World, with_gate

PREPARE, TRAIN, EVALUATE, PUBLISH = STAGES
UNTIL_GATE = (PREPARE, TRAIN, EVALUATE)


def test_a_failed_verdict_ends_the_run() -> None:
    world = World(run())
    world.through(*UNTIL_GATE, evidence=FAILED)
    assert world.reason is Reason.GATE_FAILED
    assert "notes-publish-1" not in world.started


def test_a_failed_verdict_cannot_be_overruled() -> None:
    world = World(run(gate={"approval": "Manual", "onInconclusive": "Hold"}))
    world.through(*UNTIL_GATE, evidence=FAILED)
    with_gate(world, decision=APPROVE)
    world.look()
    assert world.reason is Reason.GATE_FAILED


def test_inconclusive_is_refused_by_default() -> None:
    world = World(run())
    world.through(*UNTIL_GATE, evidence=INCONCLUSIVE)
    assert world.reason is Reason.GATE_INCONCLUSIVE


@pytest.mark.parametrize(
    ("gate", "evidence"),
    [({"onInconclusive": "Hold"}, {"evidence": INCONCLUSIVE}), ({"approval": "Manual"}, {})],
    ids=["inconclusive and hold", "passed and manual"],
)
def test_a_person_is_waited_for_and_obeyed(gate: dict[str, Any], evidence: dict[str, Any]) -> None:
    world = World(run(gate=gate))
    world.through(*UNTIL_GATE, **evidence)
    assert world.reason is Reason.AWAITING_DECISION
    with_gate(world, decision=APPROVE)
    world.look()
    publish = world.requests["notes-publish-1"]
    assert publish.decision is not None
    assert publish.decision.by == "ml-lead"
    gate_passed = world.run.status.condition(ConditionType.GATE_PASSED)
    assert gate_passed is not None
    assert gate_passed.reason is Reason.APPROVED


def test_progress_is_told_while_a_stage_runs_and_not_while_a_person_is_waited_for() -> None:
    world = World(run(gate={"approval": "Manual"}))
    world.through(PREPARE, TRAIN)
    world.begin("notes-evaluate-1")
    reading = ProgressStatus(stage=EVALUATE, step=1, steps=3, percent=33, updated_time=at(0))
    world.progress = reading
    world.look()
    assert world.run.status.progress == reading
    world.succeed("notes-evaluate-1")
    world.look()
    assert world.reason is Reason.AWAITING_DECISION
    assert world.run.status.progress is None


def test_a_rejection_ends_the_run_with_its_reason() -> None:
    world = World(run(gate={"approval": "Manual"}))
    world.through(*UNTIL_GATE)
    with_gate(world, decision=REJECT)
    world.look()
    assert world.reason is Reason.REJECTED
    summary = world.run.status.condition(ConditionType.SUCCEEDED)
    assert summary is not None
    assert "too terse" in summary.message


def test_a_decision_made_before_the_evidence_does_not_count() -> None:
    world = World(run(gate={"approval": "Manual", "decision": APPROVE}))
    world.through(*UNTIL_GATE)
    assert world.reason is Reason.AWAITING_DECISION
    assert "notes-publish-1" not in world.started
    assert world.run.status.verdict is not None
    assert world.run.status.verdict.decision_ignored


def test_a_moved_champion_is_not_overwritten_and_says_so() -> None:
    world = World(run())
    world.through(*UNTIL_GATE)
    world.begin("notes-publish-1")
    world.succeed("notes-publish-1", champion_moved=True)
    world.look()
    assert world.reason is Reason.CHAMPION_MOVED
    assert world.run.status.published is not None
