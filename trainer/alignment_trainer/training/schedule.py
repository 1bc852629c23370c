"""From the spec and the number of pairs to a complete training schedule. Pure.

The defaults exist so that a run of 500 pairs moves the model: at least 50 optimizer steps where 3 epochs allow
it, otherwise smaller steps (7 steps at a large batch move nothing, which looks like a model that cannot learn). No more
epochs than that: at beta 0.1 they add distance from the reference and no reward (docs/frontier.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from alignment_api.spec import Loss, TrainingSpec

__all__ = ["Schedule", "checkpoint_steps", "compares_pairs", "losses", "make_schedule"]

_ENOUGH_STEPS: Final = 50
_MOST_EPOCHS: Final = 3
_PAIRS_PER_STEP: Final = 16
_MICRO_BATCH: Final = 8
_TOKENS_PER_MICRO_BATCH: Final = 8192
"""Enough to keep an accelerator or a CPU busy; lowered where memory does not do."""
_CHECKPOINTS: Final = 10
_EDIT_SFT_WEIGHT: Final = 0.2
"""On edits of a weak base, DPO alone lowers the likelihood of what both sides share (arXiv 2402.13228)."""


@dataclass(frozen=True)
class Schedule:
    """Resolved schedule. Steps are optimizer steps; save_steps: between checkpoints and selections."""

    pairs: int
    epochs: int
    pairs_per_step: int
    micro_batch: int
    accumulation: int
    steps: int
    save_steps: int
    learning_rate: float
    processes: int
    tokens_per_micro_batch: int
    warm_start_learning_rate: float
    sft_weight: float


def make_schedule(spec: TrainingSpec, pairs: int, *, edits: bool, processes: int = 1) -> Schedule:
    """Schedule for ``pairs`` training pairs. edits: most pairs are edits; processes: ranks that share a step."""
    lora = spec.lora is not None
    most_epochs = spec.epochs or _MOST_EPOCHS
    per_step = spec.pairs_per_step or max(1, min(_PAIRS_PER_STEP, most_epochs * pairs // _ENOUGH_STEPS))
    per_epoch = math.ceil(pairs / per_step)
    epochs = spec.epochs or max(1, min(_MOST_EPOCHS, math.ceil(_ENOUGH_STEPS / per_epoch)))
    per_rank = max(1, per_step // processes)
    micro = max(size for size in range(1, min(per_rank, _MICRO_BATCH) + 1) if per_rank % size == 0)
    steps = per_epoch * epochs
    return Schedule(
        pairs=pairs,
        epochs=epochs,
        pairs_per_step=per_step,
        micro_batch=micro,
        accumulation=per_rank // micro,
        steps=steps,
        save_steps=checkpoint_steps(steps),
        learning_rate=spec.learning_rate or (1e-4 if lora else 1e-6),
        processes=processes,
        tokens_per_micro_batch=_TOKENS_PER_MICRO_BATCH,
        warm_start_learning_rate=(spec.warm_start.learning_rate if spec.warm_start else None)
        or (2e-4 if lora else 1e-5),
        sft_weight=spec.sft_weight if spec.sft_weight is not None else (_EDIT_SFT_WEIGHT if edits else 0.0),
    )


def compares_pairs(loss: Loss) -> bool:
    """Whether a loss compares the pairs of a step with each other, so that it needs them in one micro-batch.

    Optimal transport (``aot``) sorts the log-ratios of what it is given at once; every other loss is a mean over pairs.
    """
    return loss in (Loss.AOT, Loss.AOT_UNPAIRED)


def checkpoint_steps(steps: int) -> int:
    """Optimizer steps between checkpoints: about ten in a run, and some even in a run of six steps."""
    return max(1, steps // _CHECKPOINTS)


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
