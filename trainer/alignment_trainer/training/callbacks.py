"""What the trainer tells while it runs: progress, the wish to stop, uploads, the check of the first step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.live import LIVE
from alignment_trainer.training.checkpoints import Checkpoints
from alignment_trainer.training.group import Group

__all__ = ["FirstStepCheck", "Reporter", "Uploader"]

_TOLERANCE: Final = {False: 1e-3, True: 0.05}
"""Largest mean reward at step 0, in nats times beta: rounding of two passes over the same weights, by bfloat16."""


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
    """

    def __init__(self, *, sigmoid_only: bool, low_precision: bool) -> None:
        self._sigmoid_only = sigmoid_only
        self._tolerance = _TOLERANCE[low_precision]

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Compare the first step's rewards and loss with what they must be."""
        if state.global_step != 1 or not logs or "rewards/chosen" not in logs:
            return
        worst = max(abs(logs["rewards/chosen"]), abs(logs["rewards/rejected"]))
        off_loss = abs(logs["loss"] - math.log(2)) if self._sigmoid_only else 0.0
        if worst > self._tolerance or off_loss > self._tolerance:
            raise RuntimeError(
                f"The reference is not the policy at step 0: mean reward {worst:.4g}, loss {logs['loss']:.6g} (ln 2 = {math.log(2):.6g})"
            )
