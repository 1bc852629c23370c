"""``align demo`` as a new user runs it: a verdict within minutes, published when the edits teach, refused when not."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CPU_SECONDS = 2 * 6 * 60
"""What two cores can do in six minutes. Processor time, since other tests run beside this one."""
MOVED_NATS = 1e-3
"""Per token. A copy has 0; the demo's own run, with its warm start, 0.35."""


def demo(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "alignment_cli.main",
        "demo",
        "--directory",
        str(folder),
        "-o",
        "json",
        *options,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}
    told["cpuSeconds"] = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.returncode, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[int, dict[str, Any]]:
    return demo(folder)


def test_the_demo_publishes_a_model_that_is_truly_preferred(finished: tuple[int, dict[str, Any]]) -> None:
    code, told = finished
    assert code == 0, told
    assert told["simulated"] is True
    assert told["run"]["status"]["published"]["version"].startswith("demo-")
    assert told["truePreference"]["low"] > 0.5
    assert told["cpuSeconds"] < CPU_SECONDS


def test_other_settings_in_the_same_folder_are_refused_before_anything_is_trained(
    finished: tuple[int, dict[str, Any]], folder: Path
) -> None:
    before = sorted(path for path in folder.rglob("*") if ".align" not in path.parts)
    code, told = demo(folder, "--seed", "1")
    assert code == 64
    assert "--directory" in told["stderr"]
    assert sorted(path for path in folder.rglob("*") if ".align" not in path.parts) == before


def test_contradictory_edits_publish_nothing(finished: tuple[int, dict[str, Any]], folder: Path) -> None:
    code, told = demo(folder, "--contradictory")
    assert code in (3, 4), told
    assert "published" not in told["run"]["status"]


def test_five_hundred_pairs_with_default_training_move_the_model_and_do_not_break_it(
    finished: tuple[int, dict[str, Any]], folder: Path
) -> None:
    import yaml

    document = yaml.safe_load((folder / "demo.yaml").read_text(encoding="utf-8"))
    events = folder / "feedback" / "five-hundred.jsonl"
    lines = [
        line
        for line in (folder / "feedback" / "demo-800.jsonl").read_text(encoding="utf-8").splitlines()
        if '"edit"' in line
    ]
    events.write_text("\n".join(lines[:500]) + "\n", encoding="utf-8")
    document["metadata"]["name"] = "defaults"
    document["spec"]["data"]["sources"] = [{"uri": events.as_uri()}]
    document["spec"]["training"] = {"lora": {}, "precision": "Float32"}
    document["spec"]["publish"]["uri"] = (folder / "defaults").as_uri()
    manifest = folder / "defaults.yaml"
    manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "alignment_cli.main",
        "run",
        "-f",
        str(manifest),
        "--state",
        str(folder / ".align"),
        "-o",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    status = json.loads(done.stdout)["status"]
    candidate = next(stage["artifactUri"] for stage in status["stages"] if stage["name"] == "train")
    record = json.loads(
        (Path(candidate.removeprefix("file://")) / "training.json").read_text(encoding="utf-8")
    )
    metrics = {metric["name"]: metric for metric in status["metrics"]}
    assert record["schedule"]["steps"] >= 50
    assert metrics["klPerToken"]["low"] > MOVED_NATS, "the model must have moved"
    assert metrics["chosenLogRatio"]["low"] > 0.01, "and towards what people wrote, nats per token"
    assert metrics["degenerateRate"]["high"] < 0.1, "and must not be broken"
    assert metrics["fluencyGap"]["estimate"] < 0.5
