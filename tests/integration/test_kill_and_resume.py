"""A training that is stopped or killed at any step goes on to the losses of one that nobody disturbed; real processes."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import StageFailure
from support.material import pair
from support.stageprocess import signal_at, start
from support.trainstage import TrainStage

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


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_killed_at_random_steps_it_ends_with_the_same_losses(
    stage: TrainStage, kind: str, tmp_path: Path
) -> None:
    settings = KINDS[kind] | {"epochs": 2}
    undisturbed = stage.run(f"calm-{list(KINDS).index(kind)}", PAIRS, **settings)
    request = stage.request(f"disturbed-{kind}", PAIRS, **settings)
    rng = random.Random(kind)
    stop, kill = sorted(rng.sample(range(2, STEPS), 2))
    # Told to stop, then killed further on; the second attempt starts on another machine, without the first one's files.
    first = start(request, tmp_path / "first", prelude=signal_at(stop, signal.SIGTERM))
    assert first.wait() == 143, first.log[-4000:]
    assert isinstance(first.last_word, StageFailure)
    second = start(request, tmp_path / "second", prelude=signal_at(kill, signal.SIGKILL))
    assert second.wait() == 137, second.log[-4000:]
    third = start(request, tmp_path / "second")
    assert third.wait() == 0, third.log[-4000:]
    assert len(undisturbed.losses) == STEPS
    assert third.losses == pytest.approx(undisturbed.losses, abs=1e-6)
    steps = [entry["step"] for entry in third.record["curve"] if "loss" in entry]
    assert steps == list(range(1, STEPS + 1)), "each step counts once"


def test_a_run_of_six_steps_loses_no_more_than_one_of_them(stage: TrainStage, tmp_path: Path) -> None:
    request = stage.request("short", PAIRS, **LORA, epochs=1)
    first = start(request, tmp_path, prelude=signal_at(5, signal.SIGKILL))
    assert first.wait() == 137, first.log[-4000:]
    keys = [info.uri for info in stage.stores(request.folder).list(request.folder)]
    assert any(uri.endswith("checkpoint-4/SHA256SUMS") for uri in keys), keys
    second = start(request, tmp_path)
    assert second.wait() == 0, second.log[-4000:]
    assert len(second.losses) == 6
