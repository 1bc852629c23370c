"""The verbs on runs of a cluster, through a real kubectl, from an API server on the wire."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from alignment_api.exitcodes import AlignExit
from alignment_api.names import PLURAL, StageName
from alignment_cli import main as entry
from alignment_cli import watching
from alignment_cli.cluster.backend import ClusterBackend
from alignment_cli.errors import CommandError, Unreachable
from support import runs
from support.person import NEEDS_KUBECTL, SCRIPTS, Person
from support.personapi import PERSON

pytestmark = NEEDS_KUBECTL


def test_runs_are_listed_in_a_namespace_or_in_all(person: Person) -> None:
    person.apply("notes")
    code, out, _ = person("list", "-n", "team")
    assert (code, "Training" in out) == (0, True)
    assert "There are no runs here." in person("list", "-n", "empty")[1]
    out = person("list", "-A")[1]
    assert out.split()[:2] == ["NAMESPACE", "NAME"]
    assert "team" in out
    assert [run["metadata"]["name"] for run in json.loads(person("list", "-A", "-o", "json")[1])] == ["notes"]


def test_kubectl_finds_the_plugin(person: Person) -> None:
    person.apply("notes")
    done = subprocess.run(
        ["kubectl", "align", "status", "notes", "-n", "team"],
        env={
            **os.environ,
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "KUBECONFIG": str(person.api.kubeconfig),
        },
        cwd=person.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("notes  Training"), done.stderr


def test_kubectl_align_means_the_cluster_also_beside_runs_of_this_machine(person: Person) -> None:
    """Who followed the quick start has both, often under one name."""
    person.settle("team")
    person.state.create(runs.run())
    person.apply("notes", "GateFailed", "False")
    assert person("status", "notes")[0] == 0
    assert person("status", "notes", "--watch", tool="kubectl-align")[0] == AlignExit.GATE_FAILED
    code, out, error = person("delete", "notes", "--yes", tool="kubectl-align")
    assert (code, out) == (0, "Deleted run notes (namespace team, context test).\n"), error
    assert (PLURAL, "team", "notes") not in person.server.objects
    assert person.state.names() == ["notes"]


def test_kubectl_align_means_this_machine_where_that_is_said(person: Person) -> None:
    person.settle("team")
    person.state.create(runs.run())
    person.apply("notes")
    code, out, error = person("delete", "notes", "--yes", "--state", ".align", tool="kubectl-align")
    assert (code, out) == (0, f"Deleted run notes (state folder {person.state.folder}).\n"), error
    assert person.state.names() == []
    assert person.run()["metadata"]["name"] == "notes"


def test_kubectl_align_starts_no_run_on_this_machine_unasked(person: Person) -> None:
    person.state.create(runs.run())
    code, _, error = person("run", "notes", tool="kubectl-align")
    assert code == AlignExit.REQUEST_INVALID
    assert "kubectl apply -f FILE" in error
    assert person.state.load("notes").status.conditions == ()


def test_names_that_kubectl_completes_are_the_clusters(person: Person) -> None:
    person.settle("team")
    person.state.create(runs.run("notes-here"))
    person.apply("notes")
    assert person("status", "no", tool="kubectl_complete-align")[1] == "notes\n:4\n"


def test_names_complete_from_the_cluster(person: Person) -> None:
    person.apply("notes")
    person.apply("other")
    code, out, error = person("status", "-n", "team", "no", tool="kubectl_complete-align")
    assert (code, out, error) == (0, "notes\n:4\n", "")


def test_a_run_that_is_not_there_is_said_in_the_clusters_words(person: Person) -> None:
    """With the exit code that it has on this machine: a script can tell it from a cluster that does not answer."""
    for verb in (["status"], ["status", "--watch"], ["suspend"], ["delete", "--yes"]):
        code, _, error = person(*verb, "nobody", "-n", "team")
        assert code == AlignExit.REQUEST_INVALID
        assert '"nobody" not found' in error
        assert "kubectl align list --namespace=team" in error


def test_a_cluster_that_does_not_answer_is_said_once(person: Person, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.yaml"
    known = person.api.kubeconfig.read_text(encoding="utf-8")
    nowhere.write_text(re.sub(r"(server: https?://127\.0\.0\.1):\d+", r"\1:1", known), encoding="utf-8")
    code, _, error = person("list", KUBECONFIG=str(nowhere))
    assert code == AlignExit.OTHER
    assert error.startswith("align: No cluster answers: ")
    assert "--state DIR" in error
    assert len(error.splitlines()) == 1


def test_what_passes_is_told_from_what_stays(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real kubectl's words for a server that starts, one that is not there, and one that says no."""
    person.apply("notes")
    monkeypatch.setenv("KUBECONFIG", str(person.api.kubeconfig))
    team = ClusterBackend("team", None)
    assert team.get("notes").metadata.name == "notes"
    person.api.down = True
    with pytest.raises(Unreachable, match="unable to handle the request"):
        team.get("notes")
    person.api.down = False
    with pytest.raises(CommandError, match="not found") as refused:
        team.get("nobody")
    assert not isinstance(refused.value, Unreachable)
    nowhere = re.sub(r":\d+\n", ":1\n", person.api.kubeconfig.read_text(encoding="utf-8"))
    person.api.kubeconfig.write_text(nowhere, encoding="utf-8")
    with pytest.raises(Unreachable, match="No cluster answers"):
        team.get("notes")


def test_a_watch_outlives_a_moment_without_an_api_server(
    person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two looks fail, with one word about it; then the run has ended meanwhile."""
    person.apply("notes")
    looks = 0

    async def restarted(request: web.Request) -> web.StreamResponse:
        nonlocal looks
        if request.path.endswith("/alignmentruns/notes"):
            looks += 1
            if looks == 4:
                (condition,) = person.run()["status"]["conditions"]
                ended = {"conditions": [condition | {"reason": "GateFailed", "status": "False"}]}
                person.server.change((PLURAL, "team", "notes"), status=ended)
            if looks in (2, 3):
                return web.json_response({"kind": "Status", "code": 503, "message": "starting"}, status=503)
        return await person.api.answer(request)

    person.api.intercept = restarted
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.0)
    monkeypatch.setenv("KUBECONFIG", str(person.api.kubeconfig))
    monkeypatch.setattr(sys, "argv", ["align", "status", "notes", "--watch", "-n", "team"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    out, error = capsys.readouterr()
    assert (looks, ended.value.code) == (4, AlignExit.GATE_FAILED)
    assert [line.partition(":")[2].partition(".")[0] for line in out.splitlines()] == [
        " Training",
        " GateFailed",
    ]
    assert error.count("asking again for 120 s") == 1


def test_watching_ends_with_the_run_and_its_exit_code(person: Person) -> None:
    person.apply("notes", "GateFailed", "False")
    assert person("status", "notes", "-n", "team", "--watch")[0] == AlignExit.GATE_FAILED


def test_a_decision_carries_the_name_the_api_server_knows(person: Person) -> None:
    person.apply("notes", "AwaitingDecision")
    code, out, error = person("approve", "notes", "-n", "team", "--reason", "read the report")
    assert code == 0, error
    assert "kubectl align status notes --watch --namespace=team" in out
    decision = person.run()["spec"]["gate"]["decision"]
    assert decision == {"result": "Approve", "by": PERSON, "reason": "read the report"}


def test_a_decision_nobody_asked_for_is_refused_in_the_rules_words(person: Person) -> None:
    person.apply("notes")
    code, _, error = person("reject", "notes", "-n", "team", "--reason", "no")
    assert code == AlignExit.OTHER
    assert "awaits a decision" in error


def test_suspend_resume_clone_and_delete(person: Person) -> None:
    person.apply("notes")
    assert person("suspend", "notes", "-n", "team")[0] == 0
    assert person.run()["spec"]["suspend"] is True
    assert "The operator goes on" in person("resume", "notes", "-n", "team")[1]
    assert person.run()["spec"]["suspend"] is False
    assert "name: again" in person("clone", "notes", "again", "-n", "team")[1]
    assert person("delete", "notes", "-n", "team", "--yes")[0] == 0
    assert (PLURAL, "team", "notes") not in person.server.objects


def test_logs_are_the_newest_pods_or_those_of_a_stage_and_node(person: Person) -> None:
    person.apply("notes")
    person.pod("notes-prepare-1-a", StageName.PREPARE, "read 10 rows\n")
    person.pod("notes-train-1-0-b", StageName.TRAIN, "rank 0\n", index=0)
    person.pod("notes-train-1-1-c", StageName.TRAIN, "rank 1\n", index=1)
    assert person("logs", "notes", "-n", "team", "--stage", "train")[1] == "rank 0\n"
    assert person("logs", "notes", "-n", "team", "--stage", "train", "--node", "1")[1] == "rank 1\n"
    assert person("logs", "notes", "-n", "team", "--stage", "prepare", "--follow")[1] == "read 10 rows\n"
    code, _, error = person("logs", "notes", "-n", "team", "--stage", "publish")
    assert (code, "no pod of run notes, stage publish" in error) == (AlignExit.REQUEST_INVALID, True)


def test_a_log_that_cannot_be_read_says_why(person: Person) -> None:
    person.apply("notes")
    person.pod("notes-train-1-b", StageName.TRAIN, None)
    code, out, error = person("logs", "notes", "-n", "team")
    assert (code, out) == (AlignExit.OTHER, "")
    assert "waiting to start" in error


def test_a_run_of_a_newer_version_asks_for_a_newer_align(person: Person) -> None:
    person.apply("notes", spec={"somethingNew": True})
    code, _, error = person("status", "notes", "-n", "team")
    assert code == AlignExit.OTHER
    assert "install the version that the cluster runs" in error
