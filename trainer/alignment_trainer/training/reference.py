"""Reference log-probabilities of every pair: from the cache what is there, computed what is not.

The reference is the policy as it is before the first step: the base for a fresh adapter, the frozen copy ``ref`` for
one that is trained on, the weights themselves in full training. P pairs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from alignment_trainer.training.batching import Example, cost_of, slots, tokens_in
from alignment_trainer.training.group import Group
from alignment_trainer.training.reference_cache import ReferenceCache, pair_keys
from alignment_trainer.training.sharded import settle

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
    group: Group | None = None,
    between: Callable[[int, int], None] = lambda _done, _missing: None,
) -> tuple[NDArray[np.float64], int]:
    """(P, 2) reference log-probabilities of the whole data set, nats, and how many pairs the cache knew.

    What was missing is in the cache afterwards. Processes that train together share the missing pairs.
    between: called with the number of pairs done and to do.
    """
    keys = pair_keys(dataset, maximum)
    # One process reads: another run may add to the cache meanwhile, and all must agree on what is missing.
    group = group or Group()
    values = group.from_leader(cache.read(keys) if group.leads else None)
    missing = np.flatnonzero(np.isnan(values[:, 0]))
    cached = len(keys) - len(missing)
    _log.info("reference: %d of %d pairs are cached", cached, len(keys))
    for start in range(0, len(missing), _PAIRS_PER_SEGMENT):
        part = missing[start : start + _PAIRS_PER_SEGMENT]
        values[part] = compute(trainer, dataset, part, group)
        if group.leads:
            cache.add(keys[part], values[part])
        between(start + len(part), len(missing))
    return values, cached


def compute(
    trainer: Any, dataset: Any, indices: Sequence[int] | NDArray[np.int64], group: Group
) -> NDArray[np.float64]:
    """(len(indices), 2) log-probabilities of the chosen and rejected answers, nats, summed over tokens.

    The processes of the group share the work in equally many passes, as weights that are spread over them demand.
    """
    collator = trainer.collator
    values = torch.zeros(len(indices), 2, dtype=torch.float64)
    model = trainer.ref_model or trainer.model
    training = model.training
    model.eval()
    stretch = _BATCHES_AHEAD * 8
    # Of these passes nobody reads more than the log-probabilities.
    with trainer.seam.quiet() if trainer.seam is not None else contextlib.nullcontext():
        for start in range(0, len(indices), stretch):
            examples = [dataset[int(i)] for i in indices[start : start + stretch]]
            costs = [cost_of(e, shared=collator.shared, maximum=collator.maximum) for e in examples]
            for slot in slots(costs, collator.budget * _MORE_WITHOUT_GRADIENT, group.size, similar=True):
                share = slot.shares[group.rank]
                found = _passed(trainer, model, [examples[i] for i in share], alone=group.size == 1)
                if slot.counts(group.rank):
                    values[[start + i for i in share]] = found
    model.train(training)
    settle(model)
    return group.total(values).numpy()


def _passed(trainer: Any, model: Any, examples: list[Example], *, alone: bool) -> torch.Tensor:
    """(len(examples), 2) log-probabilities in one pass, or in smaller ones where memory does not do. alone: no other process waits."""
    batch = trainer.collator.micro_batch(examples)
    try:
        sides = trainer.compute_ref_log_probs(model, trainer.moved(batch))
        return torch.stack(list(sides), 1).double().cpu()
    except torch.OutOfMemoryError:
        if not alone or len(examples) == 1:
            raise
    # Outside of the handler: the traceback holds what did not fit.
    tokens = tokens_in(batch) // _MORE_WITHOUT_GRADIENT
    if tokens // 2 < trainer.collator.budget:
        trainer.back_off(tokens, gradients=False)
    cut = len(examples) // 2
    return torch.cat(
        [_passed(trainer, model, part, alone=alone) for part in (examples[:cut], examples[cut:])]
    )


def with_reference(dataset: Any, values: NDArray[np.float64]) -> Any:
    """The dataset with the two columns that TRL reads."""
    columns = dataset.add_column("ref_chosen_logps", values[:, 0].astype(np.float32))
    return columns.add_column("ref_rejected_logps", values[:, 1].astype(np.float32))
