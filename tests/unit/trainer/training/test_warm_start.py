"""The warm start in the memory there is: micro-batches by tokens, tried before the first step, and nothing kept afterwards."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel
from trl import SFTTrainer

from alignment_trainer.training import policy, schedule, trial
from alignment_trainer.training.schedule import at_once
from support.material import pair
from support.trainstage import TrainStage

PAIRS = [pair(number) for number in range(24)]
WARM: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8},
    "learningRate": 1e-3,
    "warmStart": {"epochs": 2, "learningRate": 1e-2},
}


@pytest.mark.parametrize(
    ("share", "longest", "budget", "size"),
    [(16, 100, 8192, 16), (16, 1024, 8192, 8), (16, 1025, 8192, 4), (12, 1000, 5000, 4), (7, 9000, 8192, 1)],
)
def test_a_micro_batch_is_a_part_of_the_share_within_the_budget(
    share: int, longest: int, budget: int, size: int
) -> None:
    assert at_once(share, longest, budget) == size


@pytest.fixture
def stage(tmp_path: Path) -> TrainStage:
    return TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sequences of each micro-batch of the warm start."""
    seen: list[int] = []
    kept = SFTTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *arguments: Any) -> Any:
        seen.append(len(inputs["input_ids"]))
        return kept(self, model, inputs, *arguments)

    monkeypatch.setattr(SFTTrainer, "training_step", training_step)
    return seen


def losses(stage: TrainStage, name: str) -> list[float]:
    curve = stage.run(name, PAIRS, **WARM).record["curve"]
    return [entry["loss"] for entry in curve if entry.get("phase") == "warmStart"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_token_budget_cuts_micro_batches_and_changes_no_loss(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch, rows: list[int]
) -> None:
    whole = losses(stage, "whole")
    assert set(rows) == {8}
    rows.clear()
    monkeypatch.setattr(schedule, "_TOKENS_PER_MICRO_BATCH", 130)
    assert losses(stage, "cut") == pytest.approx(whole, abs=1e-5)
    assert set(rows) == {2}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_does_not_fit_is_found_before_the_first_step(
    stage: TrainStage,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = losses(stage, "whole")
    rows.clear()
    kept = LlamaModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and len(kwargs["input_ids"]) > 2:
            assert not rows, "no step of the training meets the error"
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, *args, **kwargs)

    monkeypatch.setattr(trial, "wanted", lambda _device: True)
    monkeypatch.setattr(LlamaModel, "forward", forward)
    assert losses(stage, "small") == pytest.approx(whole, abs=1e-5)
    assert set(rows) == {2}
    said = [message for message in caplog.messages if message.startswith("out of memory")]
    assert said[0] == "out of memory: gradient checkpointing from here on"
    assert [line.startswith("out of memory: micro-batches of at most") for line in said[1:]] == [True, True]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_warm_started_model_is_gone_when_the_next_one_is_loaded(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    kept = policy.load_policy

    def load_policy(*args: Any, **kwargs: Any) -> Any:
        assert not any(weight() is not None for weight in loaded)
        model = kept(*args, **kwargs)
        loaded.append(weakref.ref(model.get_input_embeddings().weight))
        return model

    monkeypatch.setattr(policy, "load_policy", load_policy)
    gc.disable()  # which may come along at the right moment, or not
    try:
        stage.run("warm", PAIRS, **WARM)
    finally:
        gc.enable()
    assert len(loaded) == 2
