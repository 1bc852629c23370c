"""The check of the first step: a reference that is not the policy ends the training before it pulls to a wrong model."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from alignment_trainer.training.callbacks import FirstStepCheck

RIGHT = {"rewards/chosen": 0.0, "rewards/rejected": 0.0, "loss": math.log(2)}


def look(logs: dict[str, float], *, step: int = 1, sigmoid: bool = True, low: bool = False) -> None:
    check = FirstStepCheck(sigmoid_only=sigmoid, low_precision=low)
    check.on_log(None, SimpleNamespace(global_step=step), None, logs=logs)


def test_rewards_of_nought_and_a_loss_of_ln_2_pass() -> None:
    look(RIGHT)
    look(RIGHT | {"rewards/chosen": 0.01, "loss": 0.7}, low=True)


@pytest.mark.parametrize(
    "logs",
    [
        RIGHT | {"rewards/chosen": 0.01},
        RIGHT | {"rewards/rejected": -0.01},
        RIGHT | {"loss": 0.7},
        RIGHT | {"rewards/chosen": -0.5, "rewards/rejected": -0.5},
    ],
    ids=["a chosen side", "a rejected side", "the loss alone", "both sides alike, which no loss shows"],
)
def test_anything_else_ends_the_training_and_says_what_was_found(logs: dict[str, float]) -> None:
    with pytest.raises(
        RuntimeError, match=r"The reference is not the policy at step 0: mean reward .*ln 2 = 0\.693147"
    ):
        look(logs)


def test_other_losses_are_judged_by_their_rewards_alone() -> None:
    look(RIGHT | {"loss": 3.0}, sigmoid=False)
    with pytest.raises(RuntimeError, match="not the policy"):
        look(RIGHT | {"rewards/chosen": 0.01}, sigmoid=False)


def test_later_steps_and_logs_without_rewards_are_none_of_its_business() -> None:
    look(RIGHT | {"rewards/chosen": 5.0, "loss": 0.1}, step=2)
    look({"train_runtime": 1.0})
