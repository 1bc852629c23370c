"""From the spec and the traits of model and data to a complete training schedule. Pure.

The defaults exist so that a run of 500 pairs moves the model and does not break it, whatever its width and however long
its answers: docs/frontier.md has the measurements. What the spec sets is taken as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from alignment_api.spec import Loss, TrainingSpec
from alignment_trainer.training.traits import Traits

__all__ = [
    "Schedule",
    "at_once",
    "checkpoint_steps",
    "compares_pairs",
    "log_steps",
    "losses",
    "make_schedule",
]

_ENOUGH_STEPS: Final = 50
"""Steps are made smaller for these: seven large steps move nothing, which looks like a model that cannot learn."""
_PAIRS_PER_STEP: Final = 16
_TOKENS_PER_MICRO_BATCH: Final = 8192
"""Enough to keep an accelerator or a CPU busy; lowered where memory does not do."""
_CHECKPOINTS: Final = 10
_ENTRIES: Final = 1000
_EDIT_SFT_WEIGHT: Final = 0.2
"""On edits of a weak base, DPO alone lowers the likelihood of what both sides share (arXiv 2402.13228)."""
_WIDTH: Final = 4096
"""Width for which the rates below are published, and which counts where a model does not say its own."""
_BETA_TIMES_TOKENS: Final = 8.0
_BETA_RANGE: Final = (0.1, 1.0)


@dataclass(frozen=True)
class _Rates:
    """Peak learning rates at a width of 4096; others take (4096 / width) ** exponent times as much (docs/adr/0009)."""

    preference: float
    supervised: float
    exponent: float

    def scale(self, width: int | None) -> float:
        """Factor for a model of this width."""
        return float((_WIDTH / (width or _WIDTH)) ** self.exponent)


_LORA: Final = _Rates(1e-4, 2e-4, 0.5)
_FULL: Final = _Rates(1e-6, 1e-5, 1.0)


@dataclass(frozen=True)
class Schedule:
    """Resolved schedule. Steps are optimizer steps; save_steps: between checkpoints and selections."""

    pairs: int
    epochs: int
    pairs_per_step: int
    steps: int
    save_steps: int
    learning_rate: float
    beta: float
    processes: int
    tokens_per_micro_batch: int
    warm_start_learning_rate: float
    sft_weight: float

    @property
    def share(self) -> int:
        """Pairs of a step that fall to each process."""
        return max(1, self.pairs_per_step // self.processes)


def make_schedule(spec: TrainingSpec, traits: Traits, *, processes: int = 1) -> Schedule:
    """Schedule for a model and the pairs to train on. processes: ranks that share a step."""
    rates = _FULL if spec.lora is None else _LORA
    scale = rates.scale(traits.width)
    warm_rate = spec.warm_start.learning_rate if spec.warm_start else None
    pairs = traits.pairs
    per_step = spec.pairs_per_step or max(1, min(_PAIRS_PER_STEP, spec.epochs * pairs // _ENOUGH_STEPS))
    steps = math.ceil(pairs / per_step) * spec.epochs
    return Schedule(
        pairs=pairs,
        epochs=spec.epochs,
        pairs_per_step=per_step,
        steps=steps,
        save_steps=checkpoint_steps(steps),
        learning_rate=spec.learning_rate or _two_digits(rates.preference * scale),
        beta=spec.beta or _beta(spec.loss, traits.differing_tokens),
        processes=processes,
        tokens_per_micro_batch=_TOKENS_PER_MICRO_BATCH,
        warm_start_learning_rate=warm_rate or _two_digits(rates.supervised * scale),
        sft_weight=spec.sft_weight
        if spec.sft_weight is not None
        else (_EDIT_SFT_WEIGHT if traits.edits else 0.0),
    )


def at_once(share: int, longest: int, budget: int) -> int:
    """Sequences in a micro-batch of the warm start: equal parts of a process's share, within ``budget`` tokens or alone.

    longest: tokens of the longest sequence, to which others may be padded.
    """
    return max(n for n in range(1, share + 1) if share % n == 0 and (n == 1 or n * longest <= budget))


def compares_pairs(loss: Loss) -> bool:
    """Whether a loss compares the pairs of a step with each other, so that it needs them in one micro-batch.

    Optimal transport (``aot``) sorts the log-ratios of what it is given at once; every other loss is a mean over pairs.
    """
    return loss in (Loss.AOT, Loss.AOT_UNPAIRED)


def _beta(loss: Loss, differing_tokens: float | None) -> float:
    """From how much decides: beta acts on a sum over tokens, so the fewer tokens decide, the larger it is; losses per token take the usual 0.1."""
    low, high = _BETA_RANGE
    if loss in (Loss.IPO, Loss.SIGMOID_NORM) or differing_tokens is None:
        return low
    return _two_digits(min(high, max(low, _BETA_TIMES_TOKENS / max(1.0, differing_tokens))))


def _two_digits(value: float) -> float:
    """Rounded to what a person would write."""
    return float(f"{value:.1e}")


def checkpoint_steps(steps: int) -> int:
    """Optimizer steps between checkpoints: about ten in a run, and some even in a run of six steps.

    Whole multiples of :func:`log_steps`, so that what is noted after a checkpoint does not depend on being resumed there.
    """
    every = max(1, steps // _CHECKPOINTS)
    return every - every % log_steps(steps)


def log_steps(steps: int) -> int:
    """Optimizer steps between entries of the curve: each one up to a thousand; it does not grow with the data."""
    return max(1, steps // _ENTRIES)


def losses(spec: TrainingSpec) -> tuple[list[str], list[float]]:
    """TRL's loss types and their weights; the supervised term is ours, see ``losses.terms``.

    Conservative DPO (``smoothed``) is gone from TRL, but is a sum of two of its losses: with d = beta·margin and
    ε the label smoothing, sigmoid = −log σ(d) and robust = −log σ(d) − ε·d/(1−2ε), so
    (2−2ε)·sigmoid − (1−2ε)·robust = −log σ(d) + ε·d = −(1−ε)·log σ(d) − ε·log σ(−d).
    """
    if spec.loss is Loss.SMOOTHED:
        smoothing = spec.label_smoothing or 0.0
        return ["sigmoid", "robust"], [2 - 2 * smoothing, 2 * smoothing - 1]
    return [str(spec.loss)], [1.0]
