"""One trial of the largest micro-batch before the first step: what does not fit is known before anything is trained.

Only where memory is the device's own; a computer's main memory has no limit that could be met and survived.
"""

from __future__ import annotations

import heapq
from contextlib import AbstractContextManager
from typing import Any

import torch

from alignment_trainer.training.batching import Example, PairCollator, cost_of

__all__ = ["fits", "largest", "wanted"]


def wanted(device: torch.device) -> bool:
    """Whether a trial tells anything about a device."""
    return device.type == "cuda"


def largest(dataset: Any, collator: PairCollator, pairs_per_step: int) -> list[Example]:
    """The examples of the fullest micro-batch that this process would get if a step were made of the longest pairs."""

    def cost(example: Example) -> int:
        return cost_of(example, shared=collator.shared, maximum=collator.maximum)

    costs = ((cost(example), number) for number, example in enumerate(dataset))
    step = [dataset[number] for _, number in heapq.nlargest(pairs_per_step, costs)]
    # The same for all processes, whose shares of it are equally many pairs.
    fullest = max(collator.slots(step), key=lambda slot: sum(cost(step[n]) for n in sum(slot.shares, ())))
    return [step[number] for number in fullest.shares[collator.process]]


def fits(model: Any, batch: dict[str, Any], passes: AbstractContextManager[Any], *, room: int) -> bool:
    """Forward and backward of a micro-batch on the device, of which nothing is left: no gradient, no step of the dice.

    passes: the context of a forward pass. room: copies of the trained weights that training keeps besides gradients.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    inputs = {name: value for name, value in batch.items() if name != "completion_mask"}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    device, training = labels.device, model.training
    model.train()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), passes:
            kept = [torch.empty_like(weight) for weight in trained for _ in range(room)]
            scored = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
            scored.log_probs.sum().backward()
            del kept
    except torch.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)
    return True
