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
from alignment_trainer.training.reference_cache import ReferenceCache, pair_key

__all__ = ["compute", "reference_values", "with_reference"]

_log = logging.getLogger(__name__)
_BATCHES_AHEAD: Final = 64
"""Pairs are sorted by length within this many batches' worth of them: memory does not grow with their number."""
_PAIRS_PER_SEGMENT: Final = 1024
"""Pairs after which the cache is written: what a killed attempt loses at most."""
_MORE_WITHOUT_GRADIENT: Final = 2
"""Without a backward pass a batch may hold so many times the tokens of a training micro-batch."""


def reference_values(
    trainer: Any,
    dataset: Any,
    cache: ReferenceCache,
    *,
    maximum: int,
    between: Callable[[int, int], None] = lambda _done, _missing: None,
) -> tuple[NDArray[np.float64], int]:
    """(P, 2) reference log-probabilities of the whole data set, nats, and how many pairs the cache knew.

    What was missing is in the cache afterwards. Processes that train together share the missing pairs.
    between: called with the number of pairs done and to do.
    """
    keys = [pair_key(example, maximum) for example in dataset]
    # One process reads: another run may add to the cache meanwhile, and all must agree on what is missing.
    known = _from_main(trainer, lambda: cache.read(keys))
    values = np.array([known.get(key, (np.nan, np.nan)) for key in keys]).reshape(-1, 2)
    missing = np.flatnonzero(np.isnan(values[:, 0]))
    cached = len(keys) - len(missing)
    _log.info("reference: %d of %d pairs are cached", cached, len(keys))
    rank, ranks = trainer.accelerator.process_index, trainer.accelerator.num_processes
    for start in range(0, len(missing), _PAIRS_PER_SEGMENT):
        part = missing[start : start + _PAIRS_PER_SEGMENT]
        mine = compute(trainer, dataset, part[rank::ranks])
        for other, theirs in enumerate(_gathered(mine, ranks)):
            values[part[other::ranks]] = theirs
        if trainer.accelerator.is_main_process:
            cache.add([keys[i] for i in part], values[part])
        between(start + len(part), len(missing))
    return values, cached


def _from_main(trainer: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` gives in the main process, in all of them."""
    made = [make() if trainer.accelerator.is_main_process else None]
    if trainer.accelerator.num_processes > 1:
        torch.distributed.broadcast_object_list(made, src=0)
    return made[0]


def _gathered(mine: NDArray[np.float64], ranks: int) -> list[NDArray[np.float64]]:
    if ranks == 1:
        return [mine]
    everyone: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def compute(trainer: Any, dataset: Any, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
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
