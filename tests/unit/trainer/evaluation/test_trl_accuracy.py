"""Why the gate does not read TRL's ``eval_rewards/accuracies``: shown against TRL itself, on ragged batches.

TRL averages the accuracies of batches, so the pairs of a small last batch weigh more, and it counts a tie as a loss: before
any training it reports 0, where nothing has been preferred either way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment_trainer.evaluation.material import Logps
from alignment_trainer.evaluation.metrics.preference_accuracy import preferred
from alignment_trainer.evaluation.scoring import encode, score
from support.material import material, pair
from support.tiny import save_tiny_model

pytestmark = pytest.mark.slow

PAIRS = [pair(number) for number in range(9)]
BATCH = 8


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def ours(policy: Any, reference: Any, tokenizer: Any) -> np.ndarray:
    """1, ½ or 0 for each pair, by the product's own scoring."""

    def logps(model: Any) -> Logps:
        sides = {}
        for side in ("chosen", "rejected"):
            sequences = [encode(tokenizer, p.prompt, getattr(p, side), 256) for p in PAIRS]
            sides[side] = score(model, sequences, tokenizer.pad_token_id, lambda _: None).logps
        return Logps(**sides)

    return preferred(material(pairs=PAIRS, candidate_logps=logps(policy), champion_logps=logps(reference)))


def theirs(policy: Any, reference: Any, tokenizer: Any, folder: Path) -> float:
    """TRL's number on the same pairs, eight a batch."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = Dataset.from_list(
        [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS]
    )
    arguments = DPOConfig(
        output_dir=str(folder),
        per_device_eval_batch_size=BATCH,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        max_length=256,
    )
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
    )
    return float(trainer.evaluate()["eval_rewards/accuracies"])


def test_trl_averages_batches_and_we_average_pairs(tmp_path: Path) -> None:
    import torch

    save_tiny_model(tmp_path / "model")
    reference, tokenizer = load(tmp_path / "model")
    policy, _ = load(tmp_path / "model")
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            for source, target in zip(reference.parameters(), policy.parameters(), strict=True):
                target.copy_(source + 0.02 * torch.randn_like(source))
        right = ours(policy, reference, tokenizer)
        by_batch = (right[:BATCH].mean() + right[BATCH:].mean()) / 2
        if abs(by_batch - right.mean()) > 0.1:
            break
    assert theirs(policy, reference, tokenizer, tmp_path / "out") == pytest.approx(by_batch, abs=1e-6)
    assert abs(by_batch - right.mean()) > 0.1, "one pair of nine weighs as much as the other eight together"


def test_trl_counts_a_tie_as_a_loss_and_we_as_a_half(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    reference, tokenizer = load(tmp_path / "model")
    policy, _ = load(tmp_path / "model")
    assert ours(policy, reference, tokenizer).mean() == 0.5
    assert theirs(policy, reference, tokenizer, tmp_path / "out") == 0.0
