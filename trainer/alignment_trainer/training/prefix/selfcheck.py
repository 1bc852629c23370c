"""Compares the prefix-shared forward with another one on a few pairs, before anything rests on it.

Guards against a TRL, transformers or kernel that changed under us. In training the other one is TRL's own, before the
first step; in evaluation it is the model's, see ``evaluation.scoring``.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from alignment_trainer.training.prefix.attention import SegmentsLost
from alignment_trainer.training.prefix.forward import KEY

__all__ = ["difference", "disagreement"]

_LIMIT: Final = {torch.float32: 1e-3, torch.float64: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}
"""Mean difference per token in nats. Rounding is far below it, a wrong mask or position far above."""


def disagreement(model: Any, batch: dict[str, Any], precision: torch.dtype) -> str | None:
    """What differs between the two forwards on ``batch`` (TRL's, with the packed batch in it); None when they agree."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    completion = batch["completion_mask"]
    labels = batch["input_ids"].masked_fill(completion == 0, -100)
    with torch.no_grad():
        theirs = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
        try:
            ours = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True, **{KEY: batch[KEY]})
        except SegmentsLost as error:
            return str(error)
    count = int(completion[:, 1:].sum())
    found = (
        difference(name, getattr(theirs, name), getattr(ours, name), count, precision)
        for name in ("log_probs", "entropy", "mean_logits")
    )
    return next((said for said in found if said is not None), None)


def difference(
    name: str, theirs: torch.Tensor, ours: torch.Tensor, count: int, precision: torch.dtype
) -> str | None:
    """How far apart two tensors of per-token values are, in words; None when it is rounding. count: scored tokens in them."""
    if theirs.shape != ours.shape:
        return f"{name} has shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
    gap = float((theirs - ours).abs().sum() / max(1, count))
    if gap <= _LIMIT[precision]:
        return None
    return f"{name} differs by {gap:.3g} nats per token (allowed {_LIMIT[precision]:.3g})"
