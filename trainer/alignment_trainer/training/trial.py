"""One trial of the largest micro-batch before the first step: what does not fit is known before anything is trained.

Only where memory is the device's own; a computer's main memory has no limit that could be met and survived.
"""

from __future__ import annotations

import heapq
import logging
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from alignment_trainer.training.batching import Example, PairCollator, cost_of
from alignment_trainer.training.group import Group
from alignment_trainer.training.schedule import Schedule, at_once

__all__ = ["fits", "largest", "recompute", "size_warm_start", "wanted"]

_log = logging.getLogger(__name__)
_MOMENTS: Final = 2
"""Copies of the trained weights that the optimizer keeps besides gradients; several processes have their buckets, too."""


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


def fits(model: Any, inputs: dict[str, Any], passes: AbstractContextManager[Any], *, several: bool) -> bool:
    """Forward and backward of a micro-batch on the device, of which nothing is left: no gradient, no step of the dice.

    inputs: the model's, ``labels`` among them. passes: the context of a forward pass. several: processes train together.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    room = _MOMENTS + several
    device, training = inputs["labels"].device, model.training
    model.train()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), passes:
            kept = [torch.empty_like(weight) for weight in trained for _ in range(room)]
            scored = model(**inputs, use_cache=False, fused_lm_head=True)
            scored.log_probs.sum().backward()
            del kept
    except torch.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)
    return True


def recompute(model: Any) -> None:
    """Keep no activations from here on (gradient checkpointing)."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    _log.warning("out of memory: gradient checkpointing from here on")


def size_warm_start(trainer: Any, group: Group, lengths: NDArray[np.int64], plan: Schedule) -> None:
    """Give TRL's supervised trainer micro-batches within the token budget, and on a GPU smaller ones until the largest fits.

    lengths: tokens of each row of its data set. Raises OutOfMemoryError where nothing helps. Losses do not depend on it:
    the supervised loss is a mean over the tokens of a step.
    """
    longest, budget = int(lengths.max()), plan.tokens_per_micro_batch
    device, model, several = trainer.accelerator.device, trainer.model, plan.processes > 1
    while True:
        size = at_once(plan.share, longest, budget)
        trainer.args.per_device_train_batch_size = size
        trainer.args.gradient_accumulation_steps = plan.share // size
        trainer._train_batch_size = trainer.args.train_batch_size
        if trainer.is_distributed_loading_by_transformers or not wanted(device):
            return
        rows = [trainer.train_dataset[int(row)] for row in np.argsort(lengths)[-size:]]
        inputs = {name: value.to(device) for name, value in trainer.data_collator(rows).items()}
        fit = fits(model, inputs, trainer.accelerator.autocast(), several=several)
        if not group.any(not fit):
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not model.is_gradient_checkpointing:
            recompute(model)
        elif size > 1:
            budget = size * longest // 2
            _log.warning("out of memory: micro-batches of at most %d tokens from here on", budget)
        else:
            raise torch.OutOfMemoryError(
                f"the longest of the chosen sides, {longest} tokens, does not fit into memory"
            )
