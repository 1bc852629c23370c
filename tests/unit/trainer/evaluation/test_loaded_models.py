"""What is evaluated is what is published: the adapter as it stands, not what is left of it in rounded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from alignment_trainer.evaluation.generation import generate
from alignment_trainer.evaluation.models import load_as
from alignment_trainer.evaluation.scoring import encode, score, score_sides
from alignment_trainer.models.fetch import LocalModel
from alignment_trainer.training.policy import load_tokenizer
from support.material import pair
from support.tiny import save_tiny_model

pytestmark = pytest.mark.slow

PAIRS = [pair(number) for number in range(8)]
LOW = torch.bfloat16


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """An adapter as a few dozen careful steps leave it: each weight is moved by less than bfloat16 tells apart."""
    folder = tmp_path_factory.mktemp("gentle")
    save_tiny_model(folder / "base", hidden=64)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=LOW)
    base.save_pretrained(folder / "base")
    policy = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    torch.manual_seed(1)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=2e-4)
    policy.save_pretrained(folder / "adapter")
    return LocalModel(folder=folder / "adapter", base=folder / "base")


def unmerged(model: LocalModel, dtype: torch.dtype) -> Any:
    base = AutoModelForCausalLM.from_pretrained(model.base, dtype=dtype)
    return PeftModel.from_pretrained(base, model.folder).eval()


def logps(loaded: Any, model: LocalModel) -> np.ndarray:
    tokenizer = load_tokenizer(model)
    sequences = [encode(tokenizer, p.prompt, p.chosen, 128) for p in PAIRS]
    return score(loaded, sequences, tokenizer.pad_token_id, lambda _done: None).logps


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (LOW, 0.0)])
def test_log_probabilities_are_those_of_the_adapter_that_is_published(
    candidate: LocalModel, dtype: torch.dtype, tolerance: float
) -> None:
    found, expected = (logps(load(candidate, dtype), candidate) for load in (load_as, unmerged))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_in_bfloat16_no_part_of_the_adapter_is_rounded_away(candidate: LocalModel) -> None:
    merged = unmerged(candidate, LOW).merge_and_unload()
    base = AutoModelForCausalLM.from_pretrained(candidate.base, dtype=LOW)
    name = "model.layers.0.mlp.up_proj.weight"
    kept = (merged.get_parameter(name) != base.get_parameter(name)).float().mean()
    assert kept < 0.7, "merged, this adapter would lose much: the test means something"
    loaded = load_as(candidate, LOW)
    stored = unmerged(candidate, torch.float32).state_dict()
    adapter = {name: weight for name, weight in loaded.state_dict().items() if "lora_" in name}
    assert adapter
    assert all(torch.equal(weight, stored[name]) for name, weight in adapter.items())
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_an_adapter_that_is_not_merged_scores_pairs_and_writes_as_a_merged_one(candidate: LocalModel) -> None:
    tokenizer = load_tokenizer(candidate)
    sides = [
        [encode(tokenizer, p.prompt, getattr(p, side), 128) for p in PAIRS] for side in ("chosen", "rejected")
    ]
    loaded = [load_as(candidate, torch.float32), unmerged(candidate, torch.float32)]
    scored = [score_sides(one, *sides, tokenizer.pad_token_id, lambda _done: None) for one in loaded]
    for merged, apart in zip(*scored, strict=True):
        np.testing.assert_allclose(apart.logps, merged.logps, rtol=0, atol=1e-4)
    texts = [
        generate(
            one,
            tokenizer,
            [p.prompt for p in PAIRS],
            temperature=0,
            maximum=8,
            seed=0,
            between=lambda _done: None,
        )
        for one in loaded
    ]
    assert texts[0] == texts[1]
