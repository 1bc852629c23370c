"""Dropout inside an adapter that is not new: training begins, a wrong reference is still found, and resuming is exact."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from transformers import OPTConfig, OPTForCausalLM

from alignment_trainer.errors import Stopped
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.training import loops
from support.material import pair
from support.publishing import SilentProgress
from support.tiny import TOKENS, save_tiny_tokenizer
from support.trainstage import TrainStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAIRS = [pair(number) for number in range(24)]
DICE: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.3},
    "warmStart": {"epochs": 2, "learningRate": 1e-2},
    "learningRate": 1e-2,
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> TrainStage:
    folder = tmp_path_factory.mktemp("stage")
    return TrainStage((folder / "store").as_uri() + "/", folder)


class StopAt(SilentProgress):
    """Sets ``stop`` after a step of the training, as SIGTERM does."""

    def __init__(self, step: int) -> None:
        self.stop = threading.Event()
        self._step = step

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        if activity == "training" and step == self._step:
            self.stop.set()


def test_a_warm_started_adapter_trains_and_a_stopped_one_goes_on_to_the_same_losses(
    stage: TrainStage,
) -> None:
    calm = stage.run("calm", PAIRS, **DICE)
    request, told = stage.request("stopped", PAIRS, **DICE), StopAt(8)
    with pytest.raises(Stopped, match="Stopped at step 2 of 3"):
        stage.carry_out(request, told, told.stop)
    resumed = stage.carry_out(request.model_copy(update={"attempt": 2}))
    assert resumed.losses == calm.losses


def test_an_adapter_that_was_trained_is_trained_on_under_its_dropout(stage: TrainStage) -> None:
    settings = DICE | {"warmStart": None}
    model = stage.run("first", PAIRS, **settings).result.output.uri
    thrown = stage.run("second", PAIRS, **settings, model=model)
    still = stage.run("still", PAIRS, **(settings | {"lora": {"rank": 4, "alpha": 8}}), model=model)
    assert thrown.losses[0] != pytest.approx(still.losses[0], abs=1e-3)


def test_a_reference_that_is_not_the_policy_ends_the_training_before_its_first_step(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = loops.with_reference
    monkeypatch.setattr(loops, "with_reference", lambda dataset, values: kept(dataset, values + 1.0))
    with pytest.raises(RuntimeError, match=r"The reference is not the policy at step 0: mean reward 0\.1"):
        stage.run("wrong", PAIRS, **DICE, beta=0.1)


def test_a_base_with_dropout_of_its_own_trains(stage: TrainStage, tmp_path: Path) -> None:
    config = OPTConfig(
        **TOKENS,
        hidden_size=32,
        ffn_dim=64,
        word_embed_proj_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        dropout=0.2,
    )
    OPTForCausalLM(config).save_pretrained(tmp_path)
    save_tiny_tokenizer(tmp_path)
    model = upload_folder(tmp_path, f"{stage.root}opt/", stage.stores(stage.root)).uri
    assert len(stage.run("noisy-base", PAIRS, model=model, learningRate=1e-3).losses) == 3
