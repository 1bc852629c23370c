"""From the pairs of one optimizer step to its micro-batches: fewest bins within a token budget, in TRL's shape.

The pairs of a step are fixed by the seed; only how they are spread over micro-batches depends on the budget, and each
micro-batch counts by its share of the pairs, so the step's loss and gradient do not depend on it. Runs in the data
loader's workers. Pure but for TRL's collator, which makes the padded tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignment_trainer.training.prefix.forward import KEY
from alignment_trainer.training.prefix.packing import pack

__all__ = ["MICRO_BATCHES", "PairCollator", "cost_of", "halve", "pairs_in", "spread_over", "within_budget"]

MICRO_BATCHES = "micro_batches"
Example = dict[str, Any]


def cost_of(example: Example, *, shared: bool, maximum: int | None = None) -> int:
    """Tokens that a pair puts through the model. shared: what both sides have in common counts once."""
    prompt, chosen, rejected = example["prompt_ids"], example["chosen_ids"], example["rejected_ids"]
    longest = maximum or len(prompt) + max(len(chosen), len(rejected))
    first, second = min(len(prompt) + len(chosen), longest), min(len(prompt) + len(rejected), longest)
    if not shared:
        return 2 * max(first, second)
    prefix = len(prompt)
    for a, b in zip(chosen, rejected, strict=False):
        if a != b:
            break
        prefix += 1
    return first + second - min(prefix, first, second)


def within_budget(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in as few groups as first-fit-decreasing finds, each within ``budget`` unless a single one is above it."""
    groups: list[list[int]] = []
    loads: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        place = next((g for g, load in enumerate(loads) if load + costs[index] <= budget), len(groups))
        if place == len(groups):
            groups.append([])
            loads.append(0)
        groups[place].append(index)
        loads[place] += costs[index]
    return [sorted(group) for group in groups]


def spread_over(costs: Sequence[int], groups: int) -> list[list[int]]:
    """Indices in exactly ``min(groups, len(costs))`` groups of about equal cost (longest first, into the lightest).

    Processes that train together need the same number of micro-batches, or they would wait for each other forever.
    """
    count = min(groups, len(costs))
    loads = [(0, number) for number in range(count)]
    found: list[list[int]] = [[] for _ in range(count)]
    for position, index in enumerate(sorted(range(len(costs)), key=lambda i: (-costs[i], i))):
        load, number = (0, position) if position < count else min(loads)
        found[number].append(index)
        loads[number] = (load + costs[index], number)
    return [sorted(group) for group in found]


@dataclass
class PairCollator:
    """Collates the examples of a step. padded: TRL's collator. shared: add the packed batch.

    budget: tokens per micro-batch. groups: a fixed number of micro-batches instead, where several processes train.
    """

    padded: Any
    budget: int
    shared: bool
    groups: int | None = None
    maximum: int | None = None

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """``pairs``: one zero per pair (by which accelerate counts); ``micro_batches``: a list of TRL's batches."""
        costs = [cost_of(example, shared=self.shared, maximum=self.maximum) for example in examples]
        parts = within_budget(costs, self.budget) if self.groups is None else spread_over(costs, self.groups)
        batches = [self.micro_batch([examples[i] for i in part]) for part in parts]
        return {"pairs": torch.zeros(len(examples)), MICRO_BATCHES: batches}

    def micro_batch(self, examples: list[Example]) -> dict[str, Any]:
        """TRL's batch of the examples, with the packed batch where it is used."""
        batch: dict[str, Any] = self.padded(examples)
        return _packed(batch) if self.shared else batch


def pairs_in(batch: dict[str, Any]) -> int:
    """Number of pairs in a micro-batch."""
    return int(batch["input_ids"].shape[0]) // 2


def halve(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """A micro-batch of at least two pairs as two; for the case that it did not fit into memory after all."""
    count = pairs_in(batch)
    cut = count // 2
    halves = []
    for first, last in ((0, cut), (cut, count)):
        part = {
            name: torch.cat([value[first:last], value[count + first : count + last]])
            if value.shape[0] == 2 * count
            else value[first:last]
            for name, value in batch.items()
            if isinstance(value, torch.Tensor)
        }
        halves.append(_packed(part) if KEY in batch else part)
    return halves


def _packed(batch: dict[str, Any]) -> dict[str, Any]:
    device = batch["input_ids"].device
    mask = batch["attention_mask"].cpu()
    return batch | {KEY: pack(batch["input_ids"].cpu(), mask, batch["completion_mask"].cpu()).to(device)}
