"""Real edits of documentation prose, where they are at hand, through the whole loop with a model trained on that text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from support.embedded import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EDITS = Path(__file__).parents[2].parent / "shared" / "data" / "edits.jsonl.gz"


@pytest.mark.skipif(
    not EDITS.exists(), reason=f"the real edits are not here ({EDITS}); they are not part of the repository"
)
def test_real_edits_end_in_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from alignment_cli.demo.base import pretrain
    from alignment_cli.demo.settings import BaseRecipe

    with gzip.open(EDITS, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    short = [row for row in rows if len(row["prompt"]) + len(row["edited"]) < 700][:300]
    recipe = BaseRecipe(vocabulary=2048, context=512, steps=60, examples_per_step=8)
    pretrain([(row["prompt"], " " + row["response"]) for row in short], tmp_path / "base", recipe=recipe)
    for row in short:
        row["response"], row["edited"] = " " + row["response"], " " + row["edited"]
    project = Project.local(tmp_path).with_rows(short)
    manifest = project.manifest(
        training={
            "precision": "Float32",
            "maxLength": 384,
            "warmStart": {"epochs": 1, "learningRate": 5e-4},
            "epochs": 1,
            "learningRate": 5e-5,
            "pairsPerStep": 16,
            "selectionFraction": 0,
        },
        evaluation={"generation": {"prompts": 30, "maxNewTokens": 60, "temperature": 0.7}},
        gate={},
    )
    done = project.run(manifest)
    status = project.resource()["status"]
    data = status["data"]
    # Every row is accounted for, and collapsed chains and small edits are told apart.
    assert data["rows"] == len(short)
    assert data["rows"] == (
        data["pairs"]
        + data["invalid"]
        + data["excluded"]
        + data["duplicates"]
        + data["contradictions"]
        + data["unpaired"]
        + sum(data["dropped"].values())
    )
    assert data["dropped"]["punctuationEdit"] > 0
    assert done.returncode in (0, 3, 4), done.stderr
    assert status["verdict"]["result"] in ("Passed", "Failed", "Inconclusive")
    assert (done.returncode == 0) == (status.get("published") is not None)
    evaluation = next(stage for stage in status["stages"] if stage["name"] == "evaluate")
    report = Path(evaluation["artifactUri"].removeprefix("file://")) / "report.html"
    assert report.exists()
    with capsys.disabled():
        print(f"\nreal edits: {status['verdict']['result']}, {status['headline']}; report {report}")


@pytest.mark.skipif(
    not EDITS.exists(), reason=f"the real edits are not here ({EDITS}); they are not part of the repository"
)
def test_all_real_edits_are_accounted_for(tmp_path: Path) -> None:
    """rows in = pairs + unpaired + each drop reason, exactly; chains and small edits at the rates people edit."""
    from support.preparing import prepared

    with gzip.open(EDITS, "rb") as file:
        lines = file.read().splitlines()
    found = prepared(tmp_path, lines)  # asserts that funnel and quarantine add up
    funnel = found.funnel
    assert funnel.rows == len(lines) == 3000
    assert funnel.invalid == funnel.unpaired == 0
    assert 0.08 < funnel.dropped["punctuationEdit"] / 3000 < 0.16
    assert 0.08 < funnel.dropped["collapsed"] / 3000 < 0.2
    assert not {p.group for p in found.train} & {p.group for p in found.holdout}
