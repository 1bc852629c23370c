"""The losses of a training do not depend on how its pairs are packed into micro-batches, nor on the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alignment_trainer.training import schedule, trial
from alignment_trainer.training.prefix import forward
from alignment_trainer.training.trainer import PreferenceTrainer
from support.material import pair
from support.trainstage import TrainStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAIRS = [pair(number) for number in range(30)]
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2, "epochs": 2}
BUDGETS = {"single": 1, "some": 260, "whole": 100_000}
"""Tokens per micro-batch: one pair each, some, all of a step."""


@pytest.fixture
def stage(tmp_path: Path) -> TrainStage:
    return TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)


def losses(stage: TrainStage, name: str, **settings: Any) -> list[float]:
    curve = stage.run(name, PAIRS, **settings).record["curve"]
    return [entry["loss"] for entry in curve if "loss" in entry]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "aot", "aot_unpaired"])
@pytest.mark.parametrize("engine", ["PrefixShared", "TRL"])
def test_losses_do_not_depend_on_the_token_budget(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch, loss: str, engine: str
) -> None:
    curves = {}
    for name, budget in BUDGETS.items():
        monkeypatch.setattr(schedule, "_TOKENS_PER_MICRO_BATCH", budget)
        curves[name] = losses(stage, name, **LORA, loss=loss, engine=engine, sftWeight=0.1)
    for name, curve in curves.items():
        assert curve == pytest.approx(curves["whole"], abs=2e-5), name


def test_out_of_memory_makes_smaller_micro_batches_and_changes_no_loss(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = losses(stage, "plain", **LORA)
    kept = forward.Seam.run
    refused = []

    def run(self: Any, packed: Any) -> Any:
        # As on a device with room for three pairs: the error comes from inside the forward pass of a larger one.
        if torch.is_grad_enabled() and packed.shape[0] // 2 > 3:
            refused.append(packed.shape[0] // 2)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, packed)

    monkeypatch.setattr(forward.Seam, "run", run)
    small = losses(stage, "small", **LORA)
    assert refused, "the error was met"
    assert small == pytest.approx(plain, abs=2e-5)
    said = [message for message in caplog.messages if message.startswith("out of memory")]
    assert said[0] == "out of memory: gradient checkpointing from here on"
    assert said[1].startswith("out of memory: micro-batches of at most")
    assert len(said) == 3, "8 pairs, 4, 2: each is said once, and later steps begin small"


def test_what_was_noted_before_memory_ran_out_is_not_noted_twice(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_TOKENS_PER_MICRO_BATCH", 260)
    plain = stage.run("plain", PAIRS, **LORA).record["curve"]
    kept = forward.Seam.run
    passes = 0

    def run(self: Any, packed: Any) -> Any:
        nonlocal passes
        passes += torch.is_grad_enabled()
        if torch.is_grad_enabled() and passes == 2:  # the second one of the first step
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, packed)

    monkeypatch.setattr(forward.Seam, "run", run)
    disturbed = stage.run("disturbed", PAIRS, **LORA).record["curve"]
    for name in ("num_tokens", "loss", "logps/chosen", "rewards/margins", "entropy"):
        values = [[entry[name] for entry in curve if name in entry] for curve in (plain, disturbed)]
        assert values[1] == pytest.approx(values[0], abs=1e-4), name


def test_the_largest_micro_batch_is_tried_before_the_first_step(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, step = forward.Seam.run, PreferenceTrainer.training_step
    caplog.set_level("INFO")
    refused: list[str] = []
    phase = "before"

    def run(self: Any, packed: Any) -> Any:
        # Room for three pairs with gradients, for twenty without; all thirty are scored at a time.
        if packed.shape[0] // 2 > (3 if torch.is_grad_enabled() else 20):
            refused.append(phase)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, packed)

    def training_step(*arguments: Any) -> Any:
        nonlocal phase
        phase = "training"
        return step(*arguments)

    with monkeypatch.context() as room:
        room.setattr(trial, "wanted", lambda _device: True)
        room.setattr(forward.Seam, "run", run)
        room.setattr(PreferenceTrainer, "training_step", training_step)
        small = losses(stage, "small", **LORA)
    assert set(refused) == {"before"}, "no step of the training meets the error"
    assert small == pytest.approx(losses(stage, "plain", **LORA), abs=2e-5)
    said = [message for message in caplog.messages if "out of memory" in message or "tokens, fits" in message]
    assert "micro-batches of at most" in said[0], "the reference's passes back off as well"
    assert "out of memory: gradient checkpointing from here on" in said
    assert said[-1].startswith("the largest micro-batch")
    assert len(said) <= 8, "one line each time"


def test_the_trial_leaves_nothing_behind(stage: TrainStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, the dice show it."""
    dice = LORA | {"lora": {"rank": 4, "alpha": 8, "dropout": 0.2}}
    plain = losses(stage, "plain", **dice)
    monkeypatch.setattr(trial, "wanted", lambda _device: True)
    assert losses(stage, "tried", **dice) == plain


def test_a_single_pair_that_does_not_fit_is_out_of_memory(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_self: Any, _packed: Any) -> Any:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(_self, _packed)

    kept = forward.Seam.run
    monkeypatch.setattr(forward.Seam, "run", run)
    with pytest.raises(torch.OutOfMemoryError):
        losses(stage, "none", **LORA)
