"""Reference log-probabilities of every pair: from the cache what is there, computed what is not.

The reference is the policy as it is before the first step: the base for a fresh adapter, the frozen copy ``ref`` for
one that is trained on, the weights themselves in full training. P pairs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from alignment_trainer.training.batching import cost_of

__all__ = ["compute", "with_reference"]

_log = logging.getLogger(__name__)
_BATCHES_AHEAD: Final = 64
"""Pairs are sorted by length within this many batches' worth of them: memory does not grow with their number."""
_MORE_WITHOUT_GRADIENT: Final = 2
"""Without a backward pass a batch may hold so many times the tokens of a training micro-batch."""


def compute(
    trainer: Any, dataset: Any, indices: Sequence[int], done: Callable[[int], None] = lambda _count: None
) -> NDArray[np.float64]:
    """(len(indices), 2) log-probabilities of the chosen and rejected answers, nats, summed over tokens."""
    collator = trainer.collator
    budget = collator.budget * _MORE_WITHOUT_GRADIENT
    values = np.zeros((len(indices), 2))
    model = trainer.ref_model or trainer.model
    training = model.training
    model.eval()
    stretch = _BATCHES_AHEAD * 8
    for start in range(0, len(indices), stretch):
        examples = [dataset[int(i)] for i in indices[start : start + stretch]]
        costs = [cost_of(e, shared=collator.shared, maximum=collator.maximum) for e in examples]
        for group in _by_length(costs, budget):
            batch = collator.micro_batch([examples[i] for i in group])
            chosen_P, rejected_P = trainer.compute_ref_log_probs(model, trainer.moved(batch))
            values[[start + i for i in group]] = torch.stack([chosen_P, rejected_P], 1).double().cpu().numpy()
            done(len(group))
    model.train(training)
    return values


def with_reference(dataset: Any, values: NDArray[np.float64]) -> Any:
    """The dataset with the two columns that TRL reads."""
    columns = dataset.add_column("ref_chosen_logps", values[:, 0].astype(np.float32))
    return columns.add_column("ref_rejected_logps", values[:, 1].astype(np.float32))


def _by_length(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Groups of similar cost within the budget: what is padded (TRL's forward) is padded little."""
    order = sorted(range(len(costs)), key=lambda i: costs[i])
    groups: list[list[int]] = []
    load = 0
    for index in order:
        if groups and load + costs[index] <= budget:
            groups[-1].append(index)
            load += costs[index]
        else:
            groups.append([index])
            load = costs[index]
    return groups
