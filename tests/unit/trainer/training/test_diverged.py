"""A real training whose loss stops being a number after a warm start: what is told, and how the warm start went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment_trainer.errors import RequestError
from alignment_trainer.training import loops
from support.material import pair
from support.trainstage import TrainStage

PEAK = 1e-2


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> tuple[RequestError, list[dict[str, Any]]]:
    """What the stage raised, and the log of its warm start."""
    folder = tmp_path_factory.mktemp("diverged")
    stage = TrainStage((folder / "store").as_uri() + "/", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "terms", lambda *_: (lambda log_probs, _: log_probs[:1].sum(1) * torch.nan,))
        with pytest.raises(RequestError) as told:
            stage.run(
                "diverged",
                [pair(number) for number in range(8)],
                warmStart={"epochs": 1, "learningRate": PEAK},
                epochs=20,
                learningRate=1e-3,
                sftWeight=0.2,
            )
    (log,) = Path(folder / "store").rglob("warm-start/policy/log.json")
    return told.value, json.loads(log.read_text(encoding="utf-8"))


def test_the_stage_ends_with_a_sentence_instead_of_a_candidate(
    diverged: tuple[RequestError, list[dict[str, Any]]],
) -> None:
    error, _ = diverged
    assert error.reason == "TrainingDiverged"
    assert "at step 1 of 20 the loss is nan" in error.message
    assert "set training.learningRate" in error.message


def test_a_warm_start_of_one_step_reaches_its_rate_however_long_the_training_after_it(
    diverged: tuple[RequestError, list[dict[str, Any]]],
) -> None:
    _, log = diverged
    assert [entry["learning_rate"] for entry in log if "loss" in entry] == [PEAK]
