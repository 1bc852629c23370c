"""Bad input: the right exit code, one message with object, place and remedy, nothing half-published, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.exitcodes import AlignExit
from support.embedded import Project, edits
from support.judge import judge_server

Break = Callable[[Project, dict[str, Any]], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    Project.local(folder).with_model(chat_template=False)
    return folder / "base"


@pytest.fixture
def project(tmp_path: Path, model: Path) -> Project:
    shutil.copytree(model, tmp_path / "base")
    return Project.local(tmp_path).with_rows(edits(60))


def spec_changed(path: str, value: Any) -> Break:
    def change(_project: Project, document: dict[str, Any]) -> None:
        node = document["spec"]
        *parents, last = path.split(".")
        for part in parents:
            node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
        node[last] = value

    return change


def rows(lines: list[str]) -> Break:
    def change(project: Project, _document: dict[str, Any]) -> None:
        (project.folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return change


def pickle_weights(project: Project, _document: dict[str, Any]) -> None:
    weights = project.folder / "base" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))


def read_only_target(project: Project, document: dict[str, Any]) -> None:
    document["spec"]["publish"]["uri"] = "file:///proc/models/"


def occupied_target(project: Project, document: dict[str, Any]) -> None:
    (project.folder / "occupied").write_text("a file where a folder is needed", encoding="utf-8")
    document["spec"]["publish"]["uri"] = f"{project.root}/occupied/"


CONVERSATION = json.dumps(
    {
        "prompt": [{"role": "user", "content": "Hello"}],
        "chosen": [{"role": "assistant", "content": "Good morning"}],
        "rejected": [{"role": "assistant", "content": "Hey"}],
    }
)

CASES: list[tuple[str, Break, int, list[str]]] = [
    (
        "an unknown field",
        spec_changed("training.learningrate", 0.1),
        64,
        ["training.learningrate", "unknown field"],
    ),
    ("a wrong type", spec_changed("training.beta", "strong"), 64, ["training.beta", "number"]),
    ("an unknown scheme", spec_changed("publish.uri", "ftp://host/models/"), 64, ["publish.uri"]),
    ("a broken rule", spec_changed("training.loss", "robust"), 64, ["labelSmoothing"]),
    (
        "a missing model",
        spec_changed("model.uri", "file:///nowhere/base/"),
        64,
        ["file:///nowhere/base/", "check"],
    ),
    (
        "a missing source",
        spec_changed("data.sources", [{"uri": "file:///nowhere/*.jsonl"}]),
        65,
        ["file:///nowhere/*.jsonl", "check"],
    ),
    ("an empty source", rows([]), 65, ["no rows"]),
    ("too few pairs", spec_changed("data.minimumPairs", 500), 65, ["500", "collect more"]),
    (
        "rows that are no JSON",
        rows(["not json"] * 5),
        65,
        ["rows.jsonl:1", "NotJson", "maximumInvalidFraction"],
    ),
    ("an array instead of lines", rows([json.dumps(edits(3))]), 65, ["NotAnObject", "rows.jsonl:1"]),
    ("pickle weights only", pickle_weights, 64, ["pickle", "save_pretrained"]),
    ("conversations without a chat template", rows([CONVERSATION]), 64, ["rows.jsonl:1", "chat template"]),
    ("a read-only target", read_only_target, 64, ["/proc/models"]),
    ("a target that is a file", occupied_target, 64, ["occupied"]),
]


@pytest.mark.parametrize(("break_it", "code", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input_ends_with_a_sentence(
    project: Project, break_it: Break, code: int, words: list[str]
) -> None:
    manifest = project.manifest()
    document = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    break_it(project, document)
    manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = project.align("run", "-f", str(manifest), "--state", str(project.state))
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    flat = " ".join(said.split())
    for word in words:
        assert word in flat
    assert "Traceback" not in said
    assert not (project.folder / "models").exists()


def test_a_missing_bucket_is_named(project: Project, s3: Any) -> None:
    remote = Project(project.folder, project.root, s3.environment)
    manifest = remote.manifest(
        data={"sources": [{"uri": "s3://no-such-bucket/rows.jsonl"}], "minimumPairs": 20},
        storage={"endpoint": s3.endpoint, "region": "us-east-1"},
    )
    done = remote.align("run", "-f", str(manifest), "--state", str(remote.state))
    assert done.returncode in (64, 65)
    assert "no-such-bucket" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_judge_that_refuses_the_key_ends_the_run_with_what_to_do(project: Project) -> None:
    with judge_server(replies=[(401, {}, {})] * 50) as server:
        judge = {"type": "OpenAICompatible", "url": server.url, "model": "m", "secretRef": {"name": "judge"}}
        wins = [{"name": "wins", "metric": "winRate", "minimum": 0.5, "minimumEffect": 0.05}]
        done = project.run(project.manifest(evaluation={"judge": judge}, gate={"criteria": wins}))
        assert len(server.requests) == 1, "found before any text was generated"
    assert done.returncode == AlignExit.REQUEST_INVALID, done.stderr
    failure = project.resource()["status"]["lastFailure"]
    assert failure["reason"] == "JudgeRefused"
    assert "evaluation.judge.secretRef" in failure["message"]


def test_a_full_disk_is_told_and_leaves_nothing_published(project: Project) -> None:
    manifest = project.manifest()
    small = project.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a full disk needs the right to mount: {mounted.stderr.strip()}")
    try:
        document = yaml.safe_load(manifest.read_text(encoding="utf-8"))
        document["spec"]["artifacts"]["uri"] = small.as_uri()
        (small / "filler").write_bytes(os.urandom(60 * 1024))
        manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
        done = project.align("run", "-f", str(manifest), "--state", str(project.state))
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 1, said
        assert "No space left" in said
        assert "Traceback" not in said
        assert not (project.folder / "models" / "versions").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_runs_on_one_state_do_not_meet(project: Project) -> None:
    from alignment_cli.embedded.state import State
    from alignment_cli.manifests import load_manifest

    manifest = project.manifest()
    state = State(project.state)
    state.create(load_manifest(manifest))
    with state.exclusively("tiny"):
        done = project.align("run", "-f", str(manifest), "--state", str(project.state))
    assert done.returncode == 64
    assert "Another align process" in done.stderr


def test_another_spec_under_the_same_name_is_refused(project: Project) -> None:
    from alignment_cli.embedded.state import State
    from alignment_cli.manifests import load_manifest

    State(project.state).create(load_manifest(project.manifest()))
    other = project.manifest(backoffLimit=2)
    done = project.align("run", "-f", str(other), "--state", str(project.state))
    assert done.returncode == 64
    assert "another metadata.name" in done.stderr


def test_a_preview_does_nothing(project: Project) -> None:
    before = sorted(str(path) for path in project.folder.rglob("*"))
    manifest = project.manifest(gate={})
    done = project.align("run", "-f", str(manifest), "--plan", "-o", "json")
    assert done.returncode == 0, done.stderr
    preview = json.loads(done.stdout)
    assert preview["data"]["pairs"] > 20
    assert preview["training"]["steps"] > 0
    assert preview["power"][0]["shows"] > 0
    assert preview["model"]["digest"].startswith("sha256:")
    assert preview["stages"] == ["prepare", "train", "evaluate", "gate", "publish"]
    made = set(map(str, project.folder.rglob("*"))) - set(before) - {str(manifest)}
    assert not made
