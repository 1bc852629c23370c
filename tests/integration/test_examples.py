"""The examples that need no feature of a cluster, run to their end with a tiny model and invented edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.exitcodes import AlignExit
from alignment_cli.manifests import load_manifest
from support.documents import ROOT
from support.embedded import Project, edits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.local(tmp_path_factory.mktemp("examples")).with_model().with_rows(edits(90))
    return project.with_rows([{"id": "e3"}], "erasures.jsonl")


def brought_home(example: str, project: Project) -> Path:
    """The example with URIs of this machine and the sizes of a tiny model; all else as it stands in the file."""
    document: dict[str, Any] = load_manifest(ROOT / "examples" / f"{example}.yaml").to_wire()
    document.pop("status")
    spec = document["spec"]
    spec["model"] = {"uri": f"{project.root}/base/"}
    for source in spec["data"]["sources"]:
        source["uri"] = f"{project.root}/rows.jsonl"
    for exclusion in spec["data"]["exclusions"]:
        exclusion["uri"] = f"{project.root}/erasures.jsonl"
    spec["data"]["minimumPairs"] = 20
    spec["training"] |= {"precision": "Float32", "maxLength": 256, "epochs": 1, "pairsPerStep": 8}
    spec["evaluation"]["generation"] = {"prompts": 12, "maxNewTokens": 12}
    if "champion" in spec["evaluation"]:
        spec["evaluation"]["champion"]["uri"] = f"{project.root}/{example}/aliases/champion"
    spec["publish"]["uri"] = f"{project.root}/{example}/"
    spec["artifacts"]["uri"] = f"{project.root}/artifacts/"
    del spec["pods"], spec["storage"]
    path = project.folder / f"{example}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("example", ["minimal", "lora-one-gpu", "events"])
def test_an_example_runs_to_a_verdict(project: Project, example: str) -> None:
    done = project.run(brought_home(example, project))
    assert done.returncode in {AlignExit.PUBLISHED, AlignExit.GATE_FAILED, AlignExit.UNDECIDED}, done.stderr
    status = project.resource(example)["status"]
    assert status["verdict"]["criteria"]
    assert status["data"]["pairs"] >= 20


def test_excluded_rows_of_the_events_example_are_not_used(project: Project) -> None:
    assert project.resource("events")["status"]["data"]["excluded"] == 1


def test_the_approval_example_waits_and_obeys(project: Project) -> None:
    state = ("--state", str(project.state))
    done = project.run(brought_home("manual-approval", project))
    assert done.returncode == AlignExit.UNDECIDED, done.stderr
    assert project.reason("manual-approval") == "AwaitingDecision"
    assert project.align("approve", "manual-approval", "--reason", "read it", *state).returncode == 0
    assert project.align("run", "manual-approval", *state).returncode == AlignExit.PUBLISHED
    assert project.reason("manual-approval") == "Published"
