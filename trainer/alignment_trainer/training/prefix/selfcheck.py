"""Compares the prefix-shared forward with TRL's own on one batch, before the first step.

Guards against a TRL, transformers or kernel that changed under us. Two forwards without gradients on two pairs.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from alignment_trainer.training.prefix.forward import KEY

__all__ = ["disagreement"]

_LIMIT: Final = {torch.float32: 1e-3, torch.float64: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}
"""Mean difference per token in nats. Rounding is far below it, a wrong mask or position far above."""


def disagreement(model: Any, batch: dict[str, Any], precision: torch.dtype) -> str | None:
    """What differs between the two forwards on ``batch`` (TRL's, with the packed batch in it); None when they agree."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    completion = batch["completion_mask"]
    labels = batch["input_ids"].masked_fill(completion == 0, -100)
    with torch.no_grad():
        theirs = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
        ours = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True, **{KEY: batch[KEY]})
    count = completion[:, 1:].sum().clamp(min=1)
    for name in ("log_probs", "entropy", "mean_logits"):
        a, b = getattr(theirs, name), getattr(ours, name)
        if a.shape != b.shape:
            return f"{name} has shape {tuple(b.shape)}, TRL's has {tuple(a.shape)}"
        gap = float((a - b).abs().sum() / count)
        if not gap <= _LIMIT[precision]:
            return f"{name} differs by {gap:.3g} nats per token (allowed {_LIMIT[precision]:.3g})"
    return None
