"""Which forward runs: PrefixShared where it is exact, else TRL's, with one line in the log that says why."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from alignment_api.spec import Engine
from alignment_trainer.training.engine import choose_engine
from alignment_trainer.training.prefix import packing
from alignment_trainer.training.prefix.packing import PackedBatch
from support.material import pair
from support.preference import random_model
from support.trainstage import TrainStage

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2}


@pytest.mark.parametrize("wanted", [Engine.AUTO, Engine.PREFIX_SHARED])
def test_where_sharing_is_not_exact_trl_runs_and_one_line_says_why(
    wanted: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model("llama")
    assert choose_engine(wanted, model) is Engine.PREFIX_SHARED
    assert choose_engine(Engine.TRL, model) is Engine.TRL
    model.config.sliding_window = 16
    with caplog.at_level(logging.INFO):
        assert choose_engine(wanted, model) is Engine.TRL
    (line,) = caplog.messages
    assert line.startswith("engine TRL: the prefix-shared forward is not used, because of a sliding")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_seam_that_moved_is_found_at_the_start_and_trl_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    pairs = [pair(number) for number in range(16)]
    plain = stage.run("plain", pairs, **LORA, engine="TRL")
    kept = PackedBatch.spread
    # As if TRL began to read the fields one token further on.
    monkeypatch.setattr(packing.PackedBatch, "spread", lambda self, values: kept(self, values).roll(1, -1))
    moved = stage.run("moved", pairs, **LORA)
    assert "the prefix-shared forward differs from TRL's (log_probs differs by" in caplog.text
    assert moved.result.training is not None
    assert moved.result.training.engine == "TRL"
    losses = [[entry["loss"] for entry in run.record["curve"]] for run in (plain, moved)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
