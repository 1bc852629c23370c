"""A whole run with a judge on the wire, and one with a judge that is away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.embedded import Project, edits
from support.judge import judge_server

pytestmark = pytest.mark.slow

WINS = [{"name": "wins", "metric": "winRate", "minimum": 0.5, "minimumEffect": 0.05}]


def judged(url: str) -> dict[str, object]:
    return {
        "generation": {"prompts": 12, "maxNewTokens": 12},
        "judge": {"type": "OpenAICompatible", "url": url, "model": "m", "secretRef": {"name": "judge"}},
    }


def test_a_judged_run_reports_the_win_rate_and_names_the_judge(tmp_path: Path) -> None:
    project = Project.local(tmp_path).with_model().with_rows(edits(90))
    project.environment["ALIGNMENT_JUDGE_TOKEN"] = "secret-key"
    with judge_server() as server:
        done = project.run(project.manifest(evaluation=judged(server.url), gate={"criteria": WINS}))
        assert done.returncode == 4, done.stderr
        assert set(server.tokens) == {"Bearer secret-key"}
    status = project.resource()["status"]
    metrics = {metric["name"]: metric for metric in status["metrics"]}
    assert metrics["winRate"]["estimate"] == 0.5, "a judge that always takes the first gives ties"
    assert metrics["winRate"]["n"] == 12
    evaluation = next(s["artifactUri"] for s in status["stages"] if s["name"] == "evaluate")
    folder = Path(evaluation.removeprefix("file://"))
    lines = (folder / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    differing = sum(row["candidate"] != row["champion"] for row in map(json.loads, lines))
    # One question to see that the judge answers, then both orders of each prompt whose answers differ.
    assert len(server.requests) == 1 + 2 * differing
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["judge"]["model"] == "m"
    assert report["judge"]["requests"] == len(server.requests)
    written = [path.read_text(encoding="utf-8", errors="ignore") for path in folder.iterdir()]
    assert not any("secret-key" in text for text in written)
    assert "secret-key" not in done.stdout + done.stderr


def test_a_judge_that_refuses_the_key_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    project = Project.local(tmp_path).with_model().with_rows(edits(90))
    with judge_server(replies=[(401, {}, {})] * 50) as server:
        done = project.run(project.manifest(evaluation=judged(server.url), gate={"criteria": WINS}))
        assert len(server.requests) == 1, "found before any text was generated"
    assert done.returncode != 0
    failure = project.resource()["status"]["lastFailure"]
    assert failure["reason"] == "JudgeRefused"
    assert "evaluation.judge.secretRef" in failure["message"]
