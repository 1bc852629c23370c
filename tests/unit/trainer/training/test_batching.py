"""Micro-batches: every pair once, within the budget, and a loss that does not depend on how they are cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignment_trainer.training.batching import (
    MICRO_BATCHES,
    PairCollator,
    Work,
    cost_of,
    halve,
    pairs_in,
    slots,
    within_budget,
)
from alignment_trainer.training.losses import dpop, supervised
from alignment_trainer.training.prefix.forward import KEY
from support.preference import PAD, batch_of

costs = st.lists(st.integers(1, 500), min_size=1, max_size=40)


@given(costs=costs, budget=st.integers(1, 900))
def test_bins_hold_every_pair_once_and_keep_the_budget(costs: list[int], budget: int) -> None:
    bins = within_budget(costs, budget)
    assert sorted(i for group in bins for i in group) == list(range(len(costs)))
    assert all(len(group) == 1 or sum(costs[i] for i in group) <= budget for group in bins)
    # First fit: two bins that would fit into one are never both left open.
    loads = [sum(costs[i] for i in group) for group in bins]
    assert all(a + b > budget for n, a in enumerate(loads) for b in loads[n + 1 :])


@given(costs=costs, budget=st.integers(1, 900), processes=st.integers(1, 8), similar=st.booleans())
def test_processes_compute_every_pair_once_in_equally_many_passes_of_equal_size(
    costs: list[int], budget: int, processes: int, similar: bool
) -> None:
    found = slots(costs, budget, processes, similar=similar)
    counted = [
        index
        for slot in found
        for process, share in enumerate(slot.shares)
        if slot.counts(process)
        for index in share
    ]
    assert sorted(counted) == list(range(len(costs)))
    for slot in found:
        assert len(slot.shares) == processes
        assert len({len(share) for share in slot.shares}) == 1, "TRL gathers tensors of one shape"
        assert all(len(s) == 1 or sum(costs[i] for i in s) <= budget for s in slot.shares)
    loads = [sum(costs[i] for slot in found for i in slot.shares[p]) for p in range(processes)]
    assert max(loads) - min(loads) <= 2 * max(costs), "nobody waits long for another"


@given(costs=costs, processes=st.integers(1, 5))
def test_the_mean_over_processes_of_weighted_micro_batches_is_the_mean_over_pairs(
    costs: list[int], processes: int
) -> None:
    examples = [{"prompt_ids": [0] * c, "chosen_ids": [1], "rejected_ids": [2]} for c in costs]
    means = []
    for process in range(processes):
        collator = PairCollator(list, 700, shared=False, processes=processes, process=process)
        work = Work.of(collator(examples))
        assert sum(work.shares) == pytest.approx(1)
        losses = [sum(len(e["prompt_ids"]) for e in batch) / len(batch) for batch in work.batches]
        means.append(sum(loss * weight for loss, weight in zip(losses, work.weights, strict=True)))
    assert sum(means) / processes == pytest.approx(sum(costs) / len(costs))


def example(prompt: int, chosen: list[int], rejected: list[int]) -> dict[str, Any]:
    return {"prompt_ids": list(range(10, 10 + prompt)), "chosen_ids": chosen, "rejected_ids": rejected}


def test_a_shared_prefix_costs_once() -> None:
    pair = example(20, [1, 2, 3, 4, 5], [1, 2, 9])
    assert cost_of(pair, shared=True) == 20 + 5 + 1
    assert cost_of(pair, shared=False) == 2 * 25
    assert cost_of(pair, shared=True, maximum=22) == 22


def test_halves_of_a_micro_batch_are_its_pairs() -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    collator = PairCollator(DataCollatorForPreference(pad_token_id=PAD), budget=10_000, shared=True)
    examples = [example(4, [5, 6, n], [7, n]) for n in range(3, 8)]
    (whole,) = collator(examples)[MICRO_BATCHES]
    first, second = halve(whole)
    assert (pairs_in(first), pairs_in(second)) == (2, 3)
    alone = collator.micro_batch(examples[:2])
    assert torch.equal(first[KEY].labels_R, alone[KEY].labels_R)


def test_dpop_is_ln_2_at_the_reference_and_punishes_a_falling_chosen_side() -> None:
    batch: dict[str, Any] = {
        "ref_chosen_logps": torch.tensor([-3.0]),
        "ref_rejected_logps": torch.tensor([-2.0]),
    }
    at_reference = torch.tensor([[-1.0, -2.0], [-2.0, 0.0]])
    assert dpop(0.1, 50.0)(at_reference, batch).item() == pytest.approx(math.log(2))
    # Chosen falls by 1 and rejected by 3: DPO sees a margin of 2 and is content, DPOP is not.
    fallen = torch.tensor([[-2.0, -2.0], [-5.0, 0.0]])
    assert dpop(0.1, 0.0)(fallen, batch).item() == pytest.approx(math.log(1 + math.exp(-0.2)), abs=1e-6)
    assert dpop(0.1, 5.0)(fallen, batch).item() == pytest.approx(
        math.log(1 + math.exp(-0.1 * (2 - 5))), abs=1e-6
    )


def test_the_supervised_term_counts_what_the_person_wrote() -> None:
    batch = batch_of([([5, 6], [10, 11, 12, 2], [10, 30, 12, 2]), ([5], [20, 2], [20, 21, 2])])
    log_probs = -torch.arange(1, 5 * 4 + 1, dtype=torch.float64).view(4, 5)
    log_probs = log_probs * batch["completion_mask"][:, 1:]
    everything = supervised(1.0, changed_only=False)(log_probs, batch).mean()
    # First pair: answer tokens at 2..5, so rows 1..4 of the first line; second pair: rows 0..1 of the second.
    assert everything.item() == pytest.approx(((2 + 3 + 4 + 5) / 4 + (6 + 7) / 2) / 2)
    # The first edit replaced one token (position 3, row 2); the second only deleted one.
    changed = supervised(0.5, changed_only=True)(log_probs, batch).mean()
    assert changed.item() == pytest.approx(0.5 * (3 + 0) / 2)


def test_own_tokenizing_equals_trls(tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    from alignment_trainer.data.rows import Pair, Place
    from alignment_trainer.training.tokens import COLUMNS, tokenized
    from support.tiny import save_tiny_tokenizer

    save_tiny_tokenizer(tmp_path / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tokenizer")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    user, answer = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
    for prompt, chosen, rejected in (
        ("Say it", " so", " not<eos>"),
        ([user], [answer], [{"role": "assistant", "content": "Bees."}]),
    ):
        rows = [
            {"prompt": prompt, "chosen": chosen, "rejected": rejected},
            {
                "prompt": prompt if isinstance(prompt, str) else [user] * 3,
                "chosen": rejected,
                "rejected": chosen,
            },
        ]
        arguments = DPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to=[], max_length=48)
        theirs = DPOTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            ref_model=LlamaForCausalLM(model.config),
        ).train_dataset
        pairs = [Pair(id=str(n), place=Place("", n), **row) for n, row in enumerate(rows)]
        ours = tokenized(pairs, tokenizer, tmp_path / "tokens.arrow", maximum=48)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert {name: a[name] for name in COLUMNS} == {name: b[name] for name in COLUMNS}


def test_packing_in_the_data_loaders_workers_gives_the_same_batches() -> None:
    from torch.utils.data import DataLoader
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    collator = PairCollator(DataCollatorForPreference(pad_token_id=PAD), budget=30, shared=True)
    examples = [example(4, [5, 6, n], [7, n]) for n in range(3, 15)]
    rows: Any = examples
    loader: Any = DataLoader(rows, batch_size=4, num_workers=2, collate_fn=collator)
    for number, loaded in enumerate(loader):
        direct = collator(examples[4 * number : 4 * number + 4])
        assert len(loaded[MICRO_BATCHES]) == len(direct[MICRO_BATCHES]) > 1
        for ours, theirs in zip(loaded[MICRO_BATCHES], direct[MICRO_BATCHES], strict=True):
            assert ours[KEY].segments == theirs[KEY].segments
            assert torch.equal(ours[KEY].ids_T, theirs[KEY].ids_T)
