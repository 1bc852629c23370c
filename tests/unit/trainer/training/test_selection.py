"""The candidate is the last checkpoint, unless an earlier one is better by more than the selection pairs' chance."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment_trainer.data.rows import Pair
from alignment_trainer.training.selection import clearly_lower
from support.material import pair
from support.trainstage import TrainStage


def test_the_luckiest_of_equal_checkpoints_does_not_replace_the_last() -> None:
    generator = torch.Generator().manual_seed(0)
    replaced = 0
    for _ in range(400):
        base_S = torch.randn(50, generator=generator)
        checkpoints = [base_S + 0.3 * torch.randn(50, generator=generator) for _ in range(10)]
        luckiest = min(checkpoints[:-1], key=lambda losses: float(losses.mean()))
        replaced += clearly_lower(luckiest, checkpoints[-1])
    assert replaced / 400 < 0.3, "the lowest of ten replaces it nine times in ten"


def test_a_checkpoint_that_is_better_on_nearly_every_pair_is_taken() -> None:
    last_S = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert clearly_lower(last_S - 0.05 * torch.rand(50), last_S)
    assert not clearly_lower(last_S + 0.05, last_S)


def test_one_pair_shows_nothing() -> None:
    assert not clearly_lower(torch.tensor([0.1]), torch.tensor([9.0]))


def pairs_that(count: int, *, teach: bool) -> list[Pair]:
    """Edits that all teach one thing; or answers drawn at random, which can only be learned by heart."""
    rng = random.Random(3)

    def noise() -> str:
        return "".join(rng.choices("abcdefghijklmnop", k=8))

    made = [pair(number) for number in range(count)]
    return made if teach else [replace(one, chosen=noise(), rejected=noise()) for one in made]


def stored(stage: TrainStage, step: int) -> dict[str, torch.Tensor]:
    """Weights of a stored checkpoint."""
    from safetensors.torch import load_file

    artifacts = Path(stage.root.removeprefix("file://")) / "artifacts"
    (found,) = artifacts.rglob(f"checkpoint-{step}/model.safetensors")
    return load_file(found)


@pytest.mark.slow
@pytest.mark.parametrize(("teach", "early"), [(True, False), (False, True)])
def test_the_candidate_has_the_weights_of_the_checkpoint_that_the_record_names(
    teach: bool, early: bool, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    (tmp_path / "store").mkdir()
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    trained = stage.run(
        "chosen",
        pairs_that(120, teach=teach),
        selectionFraction=0.25,
        learningRate=1e-3 if teach else 5e-3,
        beta=1.0,
        sftWeight=0,
        epochs=1 if teach else 8,
    )
    assert (trained.record["checkpoint"] < trained.record["schedule"]["steps"]) is early
    candidate = load_file(trained.model.folder / "model.safetensors")
    for name, weights in stored(stage, trained.record["checkpoint"]).items():
        assert torch.equal(candidate[name], weights), name


@pytest.mark.slow
def test_the_same_seed_gives_the_same_candidate(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (tmp_path / "store").mkdir()
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    first, second = (
        stage.run(
            name, pairs_that(100, teach=False), lora={}, selectionFraction=0.25, learningRate=1e-2, beta=1.0
        )
        for name in ("first", "second")
    )
    assert first.record["checkpoint"] == second.record["checkpoint"]
    weights, others = (load_file(t.model.folder / "adapter_model.safetensors") for t in (first, second))
    for name in weights:
        assert torch.equal(weights[name], others[name]), name
