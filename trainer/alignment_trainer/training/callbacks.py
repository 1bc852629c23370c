"""What the trainer tells while it runs: progress, the wish to stop, uploads, the check of the first step, divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from alignment_trainer.errors import RequestError
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.live import LIVE
from alignment_trainer.training.checkpoints import Checkpoints
from alignment_trainer.training.group import Group

__all__ = ["DivergenceCheck", "FirstStepCheck", "Reporter", "Uploader", "rewards_without_dropout"]

_TOLERANCE: Final = {False: 1e-3, True: 0.05}
"""Largest mean reward at step 0 and a beta of 0.1 or less: rounding of two passes over the same weights, by bfloat16."""
_USUAL_BETA: Final = 0.1
_PAIRS: Final = 16
"""Pairs that are scored where the first step's own rewards do not tell."""


class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Reports each step, and ends training after a checkpoint when the stage is told to stop."""

    def __init__(self, context: StageContext, group: Group, activity: str, done: int, total: int) -> None:
        self._context = context
        self._group = group
        self._activity = activity
        self._done = done
        self._total = total
        self._latest: dict[str, float] = {}

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        """Remember what is worth showing."""
        self._latest |= {name: float(logs[name]) for name in LIVE if logs and name in logs}

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        """One optimizer step is done."""
        self._context.progress.update(
            self._done + state.global_step, self._total, activity=self._activity, metrics=self._latest
        )
        # Signals reach the processes, and the nodes, at different moments; all must stop after the same step.
        if self._group.any(self._context.stop.is_set()):
            self._context.stop.set()
            control.should_save = True
            control.should_training_stop = True
        return control


class Uploader(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Stores each checkpoint as soon as it is complete; keeps the best one and the newest."""

    def __init__(self, checkpoints: Checkpoints, group: Group) -> None:
        self._checkpoints = checkpoints
        self._group = group

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """The trainer has finished writing a checkpoint: this process its part of it, so the others are waited for."""
        self._group.wait()
        if not self._group.leads:
            return
        best = {Path(state.best_model_checkpoint).name} if state.best_model_checkpoint else set()
        self._checkpoints.upload(Path(args.output_dir) / f"checkpoint-{state.global_step}", keep=best)


class FirstStepCheck(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """At step 0 the policy is the reference: every reward is 0, and the sigmoid loss is ln 2.

    Anything else means that the reference is not what it should be, and the whole training would pull to the
    wrong model. Skipped when training is resumed.

    without_dropout: gives rewards and loss before the first step, whose own are under the adapter's dropout; omitted: the
    first step's are looked at.
    """

    def __init__(
        self,
        *,
        sigmoid_only: bool,
        low_precision: bool,
        beta: float,
        without_dropout: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self._without_dropout = without_dropout
        self._sigmoid_only = sigmoid_only
        # A reward is beta times nats, so the same rounding weighs more with a larger beta.
        self._tolerance = _TOLERANCE[low_precision] * max(1.0, beta / _USUAL_BETA)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Compare what is measured without dropout, where the first step tells nothing."""
        if self._without_dropout is not None and state.global_step == 0:
            self._compare(self._without_dropout())

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Compare the first step's rewards and loss with what they must be."""
        if self._without_dropout is None and state.global_step == 1 and logs and "rewards/chosen" in logs:
            self._compare(logs)

    def _compare(self, logs: dict[str, float]) -> None:
        off = [abs(logs["rewards/chosen"]), abs(logs["rewards/rejected"])]
        if self._sigmoid_only:
            off.append(abs(logs["loss"] - math.log(2)))
        if not all(value <= self._tolerance for value in off):  # which no NaN is
            raise RuntimeError(
                "The reference is not the policy at step 0: "
                f"mean reward {max(off[:2], key=_size):.4g}, loss {logs['loss']:.6g} (ln 2 = {math.log(2):.6g})"
            )


def rewards_without_dropout(trainer: Any) -> dict[str, float]:
    """Mean rewards and loss of the first pairs as a PreferenceTrainer's policy is now; takes no step of the dice."""
    examples = [trainer.train_dataset[n] for n in range(min(_PAIRS, len(trainer.train_dataset)))]
    training = trainer.model.training
    trainer.model.eval()
    loss, _, _ = trainer.prediction_step(trainer.model, trainer.collator(examples), prediction_loss_only=True)
    trainer.model.train(training)
    noted = trainer._metrics["eval"]
    found = {name: float(noted[name][-1]) for name in ("rewards/chosen", "rewards/rejected")}
    noted.clear()  # not an evaluation of the curve
    return found | {"loss": float(loss)}


class DivergenceCheck(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Ends a training whose loss or gradient is not a number: every weight is lost from there on.

    field: what the person lowers, by its name in the spec.
    """

    def __init__(self, field: str, learning_rate: float) -> None:
        self._field = field
        self._learning_rate = learning_rate

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Look at what was logged; every process of a group sees the same. Raises RequestError TrainingDiverged."""
        for name, words in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise RequestError(
                    f"Training diverged: at step {state.global_step} of {state.max_steps} the {words} is {value}. "
                    f"The peak learning rate was {self._learning_rate:g}: set {self._field} to a third of it or less.",
                    reason="TrainingDiverged",
                )


def _size(value: float) -> float:
    return math.inf if math.isnan(value) else value
