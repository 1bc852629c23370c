"""With ``decisions.excludeAuthor`` nobody decides on a run of their own: the rendered policy, on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tools.cluster.chart import CHART
from tools.cluster.shell import Failed, wait_until

from support.cluster import Team, reason
from support.embedded import ALWAYS

AUTHOR = "alignment.dev/author"
HELD = {"criteria": ALWAYS, "approval": "Manual"}


@pytest.fixture
def policed(notes: Team) -> Iterator[Team]:
    """A namespace with the policy of a release of its own, and two people who may edit runs there."""
    for person in ("ada", "ben"):
        binding = ("create", "rolebinding", person, "--clusterrole=edit", f"--user={person}")
        notes.kubectl("-n", notes.name, *binding)
    wait_until("ada may make runs", 60, lambda: may(notes, "ada"))
    notes.apply("old", gate=HELD)  # before anybody asked for authors
    release = f"eyes-{notes.name[-8:]}"
    settings = f"decisions.excludeAuthor=true,watchNamespaces={{{notes.name}}}"
    only = ("--show-only", "templates/decision-policy.yaml", "--set", settings)
    policy = notes.kubectl.helm("template", release, str(CHART), *only)
    notes.kubectl.apply(policy)
    wait_until("the policy is in force", 60, lambda: "set the annotation" in refusal(notes))
    try:
        yield notes
    finally:
        notes.kubectl("delete", "-f", "-", "--ignore-not-found", text=policy)


def may(notes: Team, person: str) -> bool:
    asked = ("auth", "can-i", "create", "alignmentruns.alignment.dev", f"--as={person}")
    return notes.kubectl("-n", notes.name, *asked, check=False).strip() == "yes"


def create(notes: Team, person: str, author: str | None, *more: str) -> str:
    manifest = notes.manifest(gate=HELD)
    if author is not None:
        manifest["metadata"]["annotations"] = {AUTHOR: author}
    return notes.kubectl("create", "-f", "-", f"--as={person}", *more, text=json.dumps(manifest))


def refusal(notes: Team) -> str:
    """What creating a run without an author's name is answered with; empty while it is allowed."""
    try:
        create(notes, "ada", None, "--dry-run=server")
    except Failed as error:
        return str(error)
    return ""


def change(notes: Team, person: str, patch: dict[str, object], run: str = "notes") -> str:
    text = json.dumps(patch)
    where = ("-n", notes.name, "patch", "alignmentrun", run, "--type=merge", f"--as={person}")
    return notes.kubectl(*where, "-p", text)


def decide(notes: Team, person: str, run: str = "notes") -> str:
    decision = {"result": "Approve", "by": person, "reason": "read the report"}
    return change(notes, person, {"spec": {"gate": {"decision": decision}}}, run)


def test_an_author_is_named_stays_and_may_not_decide_while_a_colleague_may(policed: Team) -> None:
    with pytest.raises(Failed, match="must stay as it was set by the creator of the run: ada"):
        create(policed, "ada", "ben")
    create(policed, "ada", "ada")
    policed.until("it awaits a decision", lambda s: reason(s) == "AwaitingDecision")
    with pytest.raises(Failed, match="the author of a run may not decide on it"):
        decide(policed, "ada")
    with pytest.raises(Failed, match="must stay as it was set by the creator"):
        change(policed, "ada", {"metadata": {"annotations": {AUTHOR: None}}})
    with pytest.raises(Failed, match=r"decision\.by must be the user who asks: ada"):
        change(
            policed,
            "ada",
            {"spec": {"gate": {"decision": {"result": "Approve", "by": "ben", "reason": "for him"}}}},
        )
    decide(policed, "ben")
    assert reason(policed.until_ended()) == "Published", policed.story()
    version = f"models/versions/notes-{policed.run()['metadata']['uid'][:8]}"
    assert '"ben"' in json.dumps(policed.read(f"{version}/lineage.json"))

    # A run from before the policy could be anybody's.
    policed.until("it awaits a decision", lambda s: reason(s) == "AwaitingDecision", "old")
    with pytest.raises(Failed, match="the run does not name its author"):
        decide(policed, "ben", "old")
