"""The train stage on a GPU: both engines learn the same, and memory that does not do is met before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment_api.spec import Engine
from alignment_trainer.data.rows import Pair
from support.material import pair
from support.tiny import save_tiny_model
from support.trainstage import Trained, TrainStage

pytestmark = pytest.mark.timeout(300)

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2, "epochs": 2}
FULL: dict[str, Any] = {"learningRate": 1e-3, "epochs": 2}
PAIRS = [pair(number) for number in range(30)]


def long_pair(number: int) -> Pair:
    """An edit whose activations weigh far more than the model: a thousand tokens."""
    short = pair(number)
    return replace(
        short,
        prompt=f"{short.prompt} " * 40,
        chosen=f"{short.chosen} " * 8,
        rejected=f"{short.rejected} " * 8,
    )


@pytest.fixture
def stage(tmp_path: Path) -> TrainStage:
    return TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)


@pytest.mark.parametrize("training", [LORA, FULL], ids=["LoRA", "full weights"])
def test_float32_losses_are_trls(stage: TrainStage, training: dict[str, Any]) -> None:
    ours, theirs = (
        stage.run(str(engine), PAIRS, engine=str(engine), **training)
        for engine in (Engine.PREFIX_SHARED, Engine.TRL)
    )
    assert ours.result.training.engine == Engine.PREFIX_SHARED
    assert ours.losses == pytest.approx(theirs.losses, abs=2e-5)
    assert ours.losses[-1] < ours.losses[0] - 0.01, "it learned"


@pytest.mark.parametrize("training", [LORA, FULL], ids=["LoRA", "full weights"])
def test_bfloat16_learns_the_same(stage: TrainStage, training: dict[str, Any]) -> None:
    low, wide = (
        stage.run(precision, PAIRS, precision=precision, **training) for precision in ("BFloat16", "Float32")
    )
    assert low.result.training.engine == Engine.PREFIX_SHARED
    assert low.losses == pytest.approx(wide.losses, abs=0.05)
    assert low.record["peakMemoryBytes"] < 2**30, "of the GPU, not of the process"


class Roomy:
    """Trainings of a model of which activations are nearly all that needs room."""

    settings: dict[str, Any] = LORA | {"maxLength": 1024, "pairsPerStep": 8, "epochs": 1}

    def __init__(self, stage: TrainStage) -> None:
        self.stage = stage
        save_tiny_model(stage.scratch / "larger", hidden=256, layers=6)
        self.model = (stage.scratch / "larger").as_uri() + "/"

    def run(self, name: str, room: float = 1.0) -> Trained:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_per_process_memory_fraction(room)
        try:
            return self.stage.run(
                name, [long_pair(number) for number in range(16)], model=self.model, **self.settings
            )
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


def share(bytes_: float) -> float:
    return bytes_ / torch.cuda.get_device_properties(0).total_memory


def test_too_little_memory_is_met_before_the_first_step_and_changes_no_loss(
    stage: TrainStage, caplog: pytest.LogCaptureFixture
) -> None:
    roomy = Roomy(stage)
    plain = roomy.run("plain")
    peak = plain.record["peakMemoryBytes"]
    assert peak > 2**29, "there is something to do without"
    caplog.set_level("INFO")
    half = roomy.run("half", share(0.6 * peak))
    said = [message for message in caplog.messages if "out of memory" in message or "tokens, fits" in message]
    assert said[0] == "out of memory: gradient checkpointing from here on"
    assert said[-1].startswith("the largest micro-batch")
    assert half.losses == pytest.approx(plain.losses, abs=2e-5)


def test_where_no_pair_fits_the_stage_says_so(stage: TrainStage) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Roomy(stage).run("none", share(40 * 2**20))
