"""Which checkpoint becomes the candidate: the last one, unless an earlier one is better by more than chance.

The lowest of ten losses on fifty pairs is mostly the luckiest. So the earlier checkpoint with the lowest loss must beat
the last one pair by pair, by more than twice the standard error of the differences (docs/frontier.md). Only
pairs of the train side are used, never the gate's holdout.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch

__all__ = ["choose_checkpoint", "clearly_lower"]

_STANDARD_ERRORS: Final = 2.0


def clearly_lower(earlier_S: torch.Tensor, last_S: torch.Tensor) -> bool:
    """Whether the losses of the same S pairs are lower under an earlier checkpoint, by more than the pairs' chance."""
    difference_S = (last_S - earlier_S).double()
    if len(difference_S) < 2:
        return False
    error = float(difference_S.std()) / math.sqrt(len(difference_S))
    return float(difference_S.mean()) > _STANDARD_ERRORS * error


def choose_checkpoint(trainer: Any) -> int:
    """Leave the weights of the chosen checkpoint on the model of a finished trainer; returns its step."""
    state = trainer.state
    best, last = state.best_model_checkpoint, state.max_steps
    if best is None or state.best_global_step == last:
        return int(last)
    last_S = trainer.held_apart()
    trainer._load_best_model()
    if clearly_lower(trainer.held_apart(), last_S):
        return int(state.best_global_step)
    state.best_model_checkpoint = str(Path(best).with_name(f"checkpoint-{last}"))
    trainer._load_best_model()
    return int(last)
