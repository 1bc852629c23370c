"""``make bench-train`` on a model small enough for a test: every arm runs, and all arms train the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tools.bench.train import __main__ as bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def cells(line: str) -> dict[str, str]:
    head = bench._HEAD.splitlines()[0]
    names, values = ([cell.strip() for cell in row.strip("|").split("|")] for row in (head, line))
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("lora", [True, False], ids=["LoRA", "full weights"])
def test_every_arm_runs_and_the_losses_are_equal(lora: bool) -> None:
    setting = bench.Setting("tiny", lora, "short", low_precision=False)
    lines = [cells(line) for line in bench.measure(setting, list(bench.ARMS), 16, 1)]
    assert [line["arm"] for line in lines] == list(bench.ARMS.values())
    for line in lines:
        if line["arm"] != "TRL tuned":
            assert float(line["largest loss difference to tuned"]) < 1e-4
    tokens = dict(
        zip(bench.ARMS, (int(line["tokens computed"].replace(",", "")) for line in lines), strict=True)
    )
    assert tokens["full"] < tokens["empty"] < tokens["tuned"] < tokens["default"]
    assert tokens["plain"] == tokens["empty"]
    assert tokens["online"] < tokens["default"]


def test_real_edits_are_skipped_with_the_reason_where_they_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "REAL_EDITS", tmp_path / "edits.jsonl.gz")
    monkeypatch.setattr(
        sys,
        "argv",
        ["bench", "--sizes", "tiny", "--data", "real", "--training", "lora", "--precisions", "fp32"],
    )
    bench.main()
    assert "skipped: edits.jsonl.gz is not beside the repository" in capsys.readouterr().out
