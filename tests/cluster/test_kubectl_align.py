"""A person with kubectl and ``align`` on a real cluster: wait, read, decide in the own name, fetch the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tools.cluster import s3
from tools.cluster.prepare import Prepared

from support.cluster import Team, reason
from support.embedded import ALWAYS

SCRIPTS = Path(sys.executable).parent


def test_a_person_watches_decides_and_reads_the_report(
    notes: Team, prepared: Prepared, tmp_path: Path
) -> None:
    context = ["--context", prepared.context] if prepared.context else []
    credentials = {"AWS_ACCESS_KEY_ID": s3.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY}

    def align(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(prepared.kubectl).parent}:{SCRIPTS}:{os.environ['PATH']}"
        return subprocess.run(
            [SCRIPTS / "align", *arguments, "-n", notes.name, *context],
            cwd=tmp_path,
            env={**os.environ, **credentials, "KUBECONFIG": prepared.kubeconfig, "PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    notes.apply(
        gate={
            "criteria": ALWAYS,
            "approval": "Manual",
        }
    )
    early = align("approve", "notes", "--reason", "before anything was measured")
    assert early.returncode != 0
    assert "awaits a decision" in early.stderr
    notes.until("it waits for a person", lambda status: reason(status) == "AwaitingDecision")

    assert "AwaitingDecision" in align("list").stdout
    assert "held out" in align("status", "notes").stdout
    assert "stage train" in align("logs", "notes", "--stage", "train").stdout
    assert align("report", "notes", "--to", "report.html", "--endpoint", _endpoint(notes)).returncode == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    forged = align("approve", "notes", "--reason", "in another's name", "--by", "somebody-else")
    assert forged.returncode != 0
    assert "must be the user who asks" in forged.stderr
    done = align("approve", "notes", "--reason", "read the report")
    assert done.returncode == 0, done.stderr
    me = json.loads(notes.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    assert notes.run()["spec"]["gate"]["decision"] == {
        "result": "Approve",
        "by": me,
        "reason": "read the report",
    }
    watched = align("status", "notes", "--watch")
    assert watched.returncode == 0, notes.story()
    assert "Published" in watched.stdout
    assert "name: notes-2" in align("clone", "notes", "notes-2").stdout
    deleted = align("delete", "notes", "--yes", "--artifacts", "--endpoint", _endpoint(notes))
    assert deleted.returncode == 0, deleted.stderr
    assert "objects below s3://" in deleted.stdout


def _endpoint(notes: Team) -> str:
    return str(notes.tunnel.client().meta.endpoint_url)
