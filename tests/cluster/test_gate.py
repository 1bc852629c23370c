"""What the gate and people decide: a refusal, a held run, and a proof of who approved."""

from __future__ import annotations

import pytest
from tools.cluster.shell import Failed

from support.cluster import Team, condition, reason
from support.embedded import ALWAYS, NEVER

UNDECIDED = [{"name": "edits", "metric": "editBurden", "maximum": 0.0}]
"""Twelve prompts and a hardly trained model: the interval holds the limit."""


def decision(result: str, by: str) -> dict[str, object]:
    return {"spec": {"gate": {"decision": {"result": result, "by": by, "reason": "read the report"}}}}


def test_a_failed_gate_publishes_nothing_and_tells_the_numbers(notes: Team) -> None:
    notes.apply(gate={"criteria": NEVER})
    status = notes.until_ended()
    assert reason(status) == "GateFailed", notes.story()
    assert status["verdict"]["result"] == "Failed"
    assert condition(status, "GatePassed")["status"] == "False"
    assert "degenerateRate" in str(status["verdict"]["criteria"])
    assert "notes-publish-1" not in notes.jobs()
    assert notes.objects("models/") == []


def test_an_inconclusive_run_is_held_and_published_when_a_person_approves(notes: Team) -> None:
    notes.apply(gate={"criteria": UNDECIDED, "onInconclusive": "Hold"})
    held = notes.until("it awaits a decision", lambda s: reason(s) == "AwaitingDecision")
    assert held["verdict"]["result"] == "Inconclusive"
    assert notes.objects("models/") == []
    notes.patch(decision("Approve", whoami(notes)))
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    version = f"models/versions/notes-{notes.run()['metadata']['uid'][:8]}"
    assert whoami(notes) in str(notes.read(f"{version}/lineage.json"))


def test_nobody_decides_in_another_name_or_before_being_asked_or_twice(notes: Team) -> None:
    manifest = notes.manifest(gate={"criteria": ALWAYS, "approval": "Manual"})
    early = {"result": "Approve", "by": whoami(notes), "reason": "in advance"}
    manifest["spec"]["gate"]["decision"] = early
    with pytest.raises(Failed, match="cannot be set when the run is created"):
        notes.kubectl.apply(manifest)

    notes.apply(gate={"criteria": ALWAYS, "approval": "Manual"})
    with pytest.raises(Failed, match="can only be set while the run awaits a decision"):
        notes.patch(decision("Approve", whoami(notes)))

    notes.until("it awaits a decision", lambda s: reason(s) == "AwaitingDecision")
    with pytest.raises(Failed, match=r"decision\.by must be the user who asks"):
        notes.patch(decision("Approve", "somebody.else@example.org"))
    notes.patch(decision("Reject", whoami(notes)))
    with pytest.raises(Failed, match="decision may be set once and not changed"):
        notes.patch(decision("Approve", whoami(notes)))
    assert reason(notes.until_ended()) == "Rejected"
    assert notes.objects("models/") == []


def whoami(notes: Team) -> str:
    return notes.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
