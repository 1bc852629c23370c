"""From the pairs of one optimizer step to its micro-batches: fewest bins within a token budget, in TRL's shape.

The pairs of a step are fixed by the seed; only how they are spread over micro-batches depends on the budget, and each
micro-batch counts by its share of the pairs, so the step's loss and gradient do not depend on it. Pure but for
TRL's collator, which makes the padded tensors. It may run in a data loader's workers, but none are started: it takes a
quarter of a millisecond a pair (docs/training.md), and workers would take cores, and shared memory that pods have little of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignment_trainer.training.prefix.forward import KEY
from alignment_trainer.training.prefix.packing import pack

__all__ = [
    "MICRO_BATCHES",
    "Example",
    "PairCollator",
    "Slot",
    "Work",
    "cost_of",
    "halve",
    "pairs_in",
    "slots",
    "tokens_in",
    "within_budget",
]

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


@dataclass(frozen=True)
class Slot:
    """What the processes compute at the same time: one micro-batch each, of as many pairs each.

    shares: indices for each process. real: how many pairs there are among them; where a step's pairs do not divide
    evenly, processes without one of their own repeat another's, for nothing.
    """

    shares: tuple[tuple[int, ...], ...]
    real: int

    def counts(self, process: int) -> bool:
        """Whether the pairs of this process are its own, not repeated ones."""
        return self.real == sum(map(len, self.shares)) or process < self.real


def slots(costs: Sequence[int], budget: int, processes: int = 1, *, similar: bool = False) -> list[Slot]:
    """Indices dealt to processes and cut into micro-batches, the same wherever it is computed.

    TRL gathers metrics at each micro-batch, so all processes need the same number of them, of equally many pairs each.
    Pairs are dealt in rows, longest first, one to each process, in turns from the left and from the right: rows are of
    about equal cost, and so are the processes' sums. A micro-batch is some rows within the budget: as few micro-batches
    as can be, or, ``similar``, of neighbours in length, so that where sides are padded, they are padded little.
    """
    order = sorted(range(len(costs)), key=lambda i: (-costs[i], i))
    rows = [order[start : start + processes] for start in range(0, len(order), processes)]
    rest = rows.pop() if len(rows[-1]) < processes else []
    cut = _neighbours if similar else within_budget
    groups = cut([costs[row[0]] for row in rows], budget)
    found = []
    for group in groups:
        dealt = [rows[number] if number % 2 == 0 else rows[number][::-1] for number in group]
        shares = tuple(tuple(sorted(row[process] for row in dealt)) for process in range(processes))
        found.append(Slot(shares, real=len(group) * processes))
    if rest:
        repeated = [*rest, *[rest[0]] * (processes - len(rest))]
        found.append(Slot(tuple((index,) for index in repeated), real=len(rest)))
    return found


def _neighbours(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in order, a new group whenever the budget is full."""
    groups: list[list[int]] = []
    load = 0
    for index, cost in enumerate(costs):
        if groups and load + cost <= budget:
            groups[-1].append(index)
            load += cost
        else:
            groups.append([index])
            load = cost
    return groups


@dataclass
class PairCollator:
    """Collates one process's share of the examples of a step. padded: TRL's collator. shared: add the packed batch.

    budget: tokens per micro-batch. together: a step is one micro-batch whatever its size. processes, process: how many share a step, and which of them this is.
    """

    padded: Any
    budget: int
    shared: bool
    maximum: int | None = None
    together: bool = False
    processes: int = 1
    process: int = 0

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """TRL's batches of this process, from all examples of the step.

        ``pairs``: one zero per pair of the step, by which accelerate counts. ``micro_batches``: a list of TRL's batches.
        ``shares``: the part of the step's pairs that is in each micro-batch, over all processes. ``weights``: by which
        its mean loss counts here, so that the mean over the processes of the weighted sums is the step's mean loss.
        """
        found = self.slots(examples)
        shares = [slot.real / len(examples) for slot in found]
        weights = [
            len(slot.shares[self.process]) * self.processes / len(examples) * slot.counts(self.process)
            for slot in found
        ]
        batches = [self.micro_batch([examples[i] for i in slot.shares[self.process]]) for slot in found]
        return {
            "pairs": torch.zeros(len(examples)),
            MICRO_BATCHES: batches,
            "shares": shares,
            "weights": weights,
        }

    def slots(self, examples: list[Example]) -> list[Slot]:
        """How the examples are dealt out."""
        costs = [cost_of(example, shared=self.shared, maximum=self.maximum) for example in examples]
        return slots(costs, sum(costs) if self.together else self.budget, self.processes)

    def micro_batch(self, examples: list[Example]) -> dict[str, Any]:
        """TRL's batch of the examples, with the packed batch where it is used."""
        batch: dict[str, Any] = self.padded(examples)
        return _packed(batch) if self.shared else batch


@dataclass(frozen=True)
class Work:
    """What :class:`PairCollator` made of a step: micro-batches, their shares of its pairs and their weights."""

    batches: list[dict[str, Any]]
    shares: list[float]
    weights: list[float]

    @classmethod
    def of(cls, inputs: dict[str, Any]) -> Work:
        """From the data loader's batch."""
        return cls(inputs[MICRO_BATCHES], inputs["shares"], inputs["weights"])

    def within(self, budget: int) -> Work:
        """The same pairs, those of too large micro-batches in halves of them, as often as it takes; one pair stays."""
        found = Work([], [], [])
        for batch, share, weight in zip(self.batches, self.shares, self.weights, strict=True):
            if tokens_in(batch) <= budget or pairs_in(batch) == 1:
                parts = Work([batch], [share], [weight])
            else:
                halves = halve(batch)
                parts_of = [pairs_in(half) / pairs_in(batch) for half in halves]
                parts = Work(halves, [share * p for p in parts_of], [weight * p for p in parts_of]).within(
                    budget
                )
            found.batches.extend(parts.batches)
            found.shares.extend(parts.shares)
            found.weights.extend(parts.weights)
        return found


def pairs_in(batch: dict[str, Any]) -> int:
    """Number of pairs in a micro-batch."""
    return int(batch["input_ids"].shape[0]) // 2


def tokens_in(batch: dict[str, Any]) -> int:
    """Tokens that a micro-batch puts through the model, as :func:`cost_of` counts them."""
    if KEY in batch:
        return int(batch[KEY].ids_T.numel())
    chosen_P, rejected_P = batch["attention_mask"].sum(1).chunk(2)
    return 2 * int(torch.maximum(chosen_P, rejected_P).sum())


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
