"""A training whose process is stopped or killed at any step goes on to the losses of one that nobody disturbed."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import StageFailure, StageRequest
from alignment_trainer.errors import Stopped
from support.material import pair
from support.publishing import SilentProgress
from support.stageprocess import signal_at, start
from support.trainstage import Trained, TrainStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAIRS = [pair(number) for number in range(45)]
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2}
FULL: dict[str, Any] = {"learningRate": 1e-3}
KINDS = {
    "LoRA, PrefixShared": LORA | {"engine": "PrefixShared"},
    "LoRA, TRL": LORA | {"engine": "TRL"},
    "full weights, PrefixShared": FULL | {"engine": "PrefixShared"},
    "full weights, TRL": FULL | {"engine": "TRL"},
}
STEPS = 12
"""Two epochs of six steps: a disturbance may fall into the first, the second, or on the border."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> TrainStage:
    folder = tmp_path_factory.mktemp("stage")
    return TrainStage((folder / "store").as_uri() + "/", folder)


NEVER_FROM_THE_BEGINNING = signal_at(1, signal.SIGABRT)


class Told(SilentProgress):
    """Progress that keeps which steps of the training were made, and at one of them sets ``stop``, as SIGTERM does."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.trained: list[int] = []
        self.stop = threading.Event()
        self._stop_at = stop_at

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        if activity == "training" and step:
            self.trained.append(step)
            if step == self._stop_at:
                self.stop.set()


def attempt(request: StageRequest, number: int) -> StageRequest:
    """The request as a later attempt gets it."""
    return request.model_copy(update={"attempt": number})


def checkpoints(stage: TrainStage, request: StageRequest) -> list[str]:
    """URIs of the objects of all checkpoints that a stage has stored."""
    return [info.uri for info in stage.stores(stage.root).list(f"{request.folder}checkpoints/")]


def weights(trained: Trained) -> dict[str, Any]:
    """All tensors of a candidate."""
    from safetensors.torch import load_file

    files = trained.model.folder.glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_killed_at_random_steps_it_ends_with_the_same_losses(
    stage: TrainStage, kind: str, tmp_path: Path
) -> None:
    import torch

    settings = KINDS[kind] | {"epochs": 2}
    number = list(KINDS).index(kind)
    undisturbed = stage.run(f"calm-{number}", PAIRS, **settings)
    request = stage.request(f"disturbed-{number}", PAIRS, **settings)
    rng = random.Random(kind)
    stop, kill = sorted(rng.sample(range(2, STEPS), 2))
    # Told to stop, then killed further on; each attempt starts on another machine, without the last one's files.
    said = f"Stopped at step {stop} of {STEPS}; the checkpoint is stored."
    if number == 0:  # one as the program is stopped; the others in this process, which has the libraries
        first = start(request, tmp_path / "first", prelude=signal_at(stop, signal.SIGTERM))
        assert first.wait() == 143, first.log[-4000:]
        assert isinstance(first.last_word, StageFailure)
        assert first.last_word.message == said
    else:
        told = Told(stop)
        with pytest.raises(Stopped, match=said):
            stage.carry_out(request, told, told.stop)
    kept = checkpoints(stage, request)
    assert any(f"/checkpoint-{stop}/" in uri for uri in kept), kept
    prelude = NEVER_FROM_THE_BEGINNING + signal_at(kill, signal.SIGKILL)
    second = start(attempt(request, 2), tmp_path / "second", prelude=prelude)
    assert second.wait() == 137, second.log[-4000:]
    told = Told()
    third = stage.carry_out(attempt(request, 3), told)
    assert min(told.trained) > 1, "it began where the killed one was"
    assert len(undisturbed.losses) == STEPS
    assert third.losses == pytest.approx(undisturbed.losses, abs=1e-6)
    steps = [entry["step"] for entry in third.record["curve"] if "loss" in entry]
    assert steps == list(range(1, STEPS + 1)), "each step counts once"
    written = [*kept, *map(str, third.model.folder.iterdir())]
    assert not any(file.endswith("README.md") for file in written), "publish writes the card"
    ours, theirs = weights(third), weights(undisturbed)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6)


def test_a_run_of_six_steps_loses_no_more_than_one_of_them(stage: TrainStage, tmp_path: Path) -> None:
    request = stage.request("short", PAIRS, **LORA, epochs=1)
    first = start(request, tmp_path, prelude=signal_at(5, signal.SIGKILL))
    assert first.wait() == 137, first.log[-4000:]
    keys = checkpoints(stage, request)
    assert any(uri.endswith("checkpoint-4/SHA256SUMS") for uri in keys), keys
    undisturbed = stage.run("short-calm", PAIRS, **LORA, epochs=1)
    # On the same machine, where the killed one left its files.
    second = start(attempt(request, 2), tmp_path, prelude=NEVER_FROM_THE_BEGINNING)
    assert second.wait() == 0, second.log[-4000:]
    assert len(second.losses) == 6
    assert second.losses == pytest.approx(undisturbed.losses, abs=1e-6)
    assert checkpoints(stage, request) == [], "no longer needed"
