"""``align run`` from rows to a published model or a reasoned refusal; on a real S3 server: ``test_examples.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.embedded import NEVER, Project, edits

pytestmark = pytest.mark.slow

LOADS_PLAINLY = """
import sys
sys.modules["alignment_api"] = sys.modules["alignment_trainer"] = None  # no code of ours
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]); tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
out = model.generate(**tokenizer("Visit 1:", return_tensors="pt", return_token_type_ids=False), max_new_tokens=3, do_sample=False)
print("generated", out.shape[1])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.local(tmp_path_factory.mktemp("project")).with_model().with_rows(edits(90))


@pytest.fixture(scope="module")
def published(project: Project) -> Project:
    done = project.run(project.manifest())
    assert done.returncode == 0, done.stderr
    return project


def test_a_run_ends_published_and_tells_its_whole_story(published: Project) -> None:
    status = published.resource()["status"]
    assert published.reason() == "Published"
    assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
        ["Succeeded", "DataReady", "Trained", "Evaluated", "GatePassed", "Published"], "True"
    )
    data = status["data"]
    assert data["rows"] == 90
    assert data["pairs"] == data["train"] + data["holdout"]
    assert data["rows"] == data["pairs"] + sum(data["dropped"].values()) + data["duplicates"]
    assert status["headline"] is None or "editBurden" in status["headline"]
    assert status["published"]["alias"].endswith("/aliases/champion")


def test_what_is_published_loads_without_any_code_of_ours(published: Project) -> None:
    version = Path(published.resource()["status"]["published"]["uri"].removeprefix("file://"))
    done = subprocess.run(
        [sys.executable, "-c", LOADS_PLAINLY, str(version)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "generated" in done.stdout, done.stderr
    assert {"README.md", "lineage.json", "report.json", "report.html", "SHA256SUMS"} <= {
        p.name for p in version.iterdir()
    }


def test_a_finished_run_does_nothing_when_it_is_run_again(published: Project) -> None:
    before = published.resource()
    done = published.run(published.folder / "tiny.yaml")
    assert done.returncode == 0
    assert published.resource() == before


def test_the_verbs_read_the_same_state(published: Project) -> None:
    state = ("--state", str(published.state))
    assert "Published" in published.align("list", *state).stdout
    story = published.align("status", "tiny", *state).stdout
    assert "Verdict: Passed" in story
    assert "held out" in story
    assert (
        json.loads(published.align("status", "tiny", *state, "-o", "json").stdout)["metadata"]["name"]
        == "tiny"
    )
    report = Path(published.align("report", "tiny", *state).stdout.strip())
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "stage train" in published.align("logs", "tiny", "--stage", "train", *state).stdout
    assert "name: again" in published.align("clone", "tiny", "again", *state).stdout


def test_the_same_manifest_again_must_beat_what_it_published_before(published: Project) -> None:
    def plan(name: str, publish: str) -> dict[str, Any]:
        manifest = published.manifest(name, publish={"uri": f"{published.root}/{publish}/"})
        done = published.align("run", "-f", str(manifest), "--plan", "-o", "json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    second = plan("second", "models")
    assert second["championIsModel"] is False
    assert second["champion"]["uri"] == published.resource()["status"]["published"]["uri"]
    assert plan("first", "elsewhere")["championIsModel"] is True


def test_a_failed_gate_publishes_nothing_and_the_exit_code_says_why(project: Project) -> None:
    manifest = project.manifest(
        "refused", gate={"criteria": NEVER}, publish={"uri": f"{project.root}/refused/"}
    )
    done = project.run(manifest)
    assert done.returncode == 3
    assert project.reason("refused") == "GateFailed"
    assert not (project.folder / "refused" / "versions").exists()


def test_an_adapter_goes_through_warm_start_and_dpo_and_loads_on_its_base(project: Project) -> None:
    manifest = project.manifest(
        "adapter",
        training={
            "precision": "Float32",
            "maxLength": 256,
            "epochs": 1,
            "pairsPerStep": 8,
            "selectionFraction": 0,
            "learningRate": 1e-4,
            "lora": {"rank": 4},
            "warmStart": {"epochs": 1},
        },
        publish={"uri": f"{project.root}/adapters/"},
    )
    done = project.run(manifest)
    assert done.returncode == 0, done.stderr
    version = Path(project.resource("adapter")["status"]["published"]["uri"].removeprefix("file://"))
    base = json.loads((version / "base.json").read_text(encoding="utf-8"))
    assert base["uri"] == f"{project.root}/base/"
    assert (version / "adapter_model.safetensors").exists()
    assert not list(version.glob("*.bin"))
