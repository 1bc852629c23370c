"""Checks while training: a reference that is not the policy ends it at the first step, what is not a number at any step."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from alignment_trainer.errors import RequestError
from alignment_trainer.training.callbacks import DivergenceCheck, FirstStepCheck

RIGHT = {"rewards/chosen": 0.0, "rewards/rejected": 0.0, "loss": math.log(2)}


def look(
    logs: dict[str, float],
    *,
    step: int = 1,
    sigmoid: bool = True,
    low: bool = False,
    beta: float = 0.1,
    measured: dict[str, float] | None = None,
) -> None:
    """A training that logs ``logs`` at a step. measured: without dropout, before the first step."""
    without = None if measured is None else (lambda: measured)
    check = FirstStepCheck(sigmoid_only=sigmoid, low_precision=low, beta=beta, without_dropout=without)
    check.on_train_begin(None, SimpleNamespace(global_step=step - 1), None)
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


def test_what_rounding_may_weigh_grows_with_beta() -> None:
    look(RIGHT | {"rewards/chosen": 0.4}, low=True, beta=1.0)
    for beta in (0.01, 0.1):
        with pytest.raises(RuntimeError, match="not the policy"):
            look(RIGHT | {"rewards/chosen": 0.06}, low=True, beta=beta)


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_is_not_a_number_does_not_pass(name: str) -> None:
    with pytest.raises(RuntimeError, match="nan"):
        look(RIGHT | {name: math.nan}, beta=100.0)


def test_other_losses_are_judged_by_their_rewards_alone() -> None:
    look(RIGHT | {"loss": 3.0}, sigmoid=False)
    with pytest.raises(RuntimeError, match="not the policy"):
        look(RIGHT | {"rewards/chosen": 0.01}, sigmoid=False)


def test_later_steps_and_logs_without_rewards_are_none_of_its_business() -> None:
    look(RIGHT | {"rewards/chosen": 5.0, "loss": 0.1}, step=2)
    look({"train_runtime": 1.0})


def test_under_dropout_what_was_measured_without_counts_and_a_resumed_training_is_not_measured() -> None:
    wrong = RIGHT | {"rewards/chosen": 0.12}
    look(wrong, measured=RIGHT)
    look(wrong, measured=wrong, step=5)
    with pytest.raises(RuntimeError, match="not the policy"):
        look(RIGHT, measured=wrong)


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_training_that_diverged_is_refused_and_names_the_rate_to_lower(name: str, value: float) -> None:
    check = DivergenceCheck("training.learningRate", 0.5)
    state = SimpleNamespace(global_step=7, max_steps=84)
    for healthy in ({"loss": 0.6, "grad_norm": 2.0}, {"eval_loss": 0.7}, None):
        check.on_log(None, state, None, logs=healthy)
    with pytest.raises(
        RequestError, match=r"step 7 of 84 .* rate was 0\.5: set training\.learningRate"
    ) as told:
        check.on_log(None, state, None, logs={"loss": 0.6, "grad_norm": 2.0} | {name: value})
    assert told.value.reason == "TrainingDiverged"
