"""Killed between its candidate and its result, or right after that, a training is not done again, and leaves nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import StageRequest, StageResult
from alignment_trainer import main
from alignment_trainer.errors import TemporaryError
from alignment_trainer.runtime.crew import Crew
from alignment_trainer.runtime.progress import ProgressReporter
from alignment_trainer.runtime.scratch import open_scratch
from alignment_trainer.storage.folders import read_sums
from support.material import pair
from support.trainstage import TrainStage
from support.unreliable import KilledError

pytestmark = pytest.mark.slow

PAIRS = [pair(number) for number in range(24)]
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2}
KINDS = {
    "the last adapter": LORA,
    "the last weights": {"learningRate": 1e-3},
    "the best adapter after a warm start": LORA
    | {"warmStart": {"epochs": 1}, "selectionFraction": 0.3, "epochs": 2},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> TrainStage:
    folder = tmp_path_factory.mktemp("stage")
    return TrainStage((folder / "store").as_uri() + "/", folder)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The steps that all attempts made."""
    made: list[tuple[str, int]] = []
    told = ProgressReporter.update

    def update(self: ProgressReporter, step: int, of: int, *, activity: str = "", **more: Any) -> None:
        told(self, step, of, activity=activity, **more)
        if activity in {"training", "warm start"} and step:
            made.append((activity, step))

    monkeypatch.setattr(ProgressReporter, "update", update)
    return made


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """To break an attempt with. Each is on a machine of its own."""
    machines = iter(range(9))

    def elsewhere(request: StageRequest) -> Path:
        monkeypatch.setenv("ALIGNMENT_SCRATCH", str(tmp_path / f"machine-{next(machines)}"))
        return open_scratch(request)

    monkeypatch.setattr(main, "open_scratch", elsewhere)
    return monkeypatch


def attempt(request: StageRequest, number: int) -> StageResult:
    return main.run_stage(request.model_copy(update={"attempt": number}), threading.Event(), Crew())


def killed(*_: Any) -> None:
    raise KilledError


def checkpoints(stage: TrainStage, request: StageRequest) -> list[str]:
    return [info.uri for info in stage.stores(stage.root).list(f"{request.folder}checkpoints/")]


def candidate(stage: TrainStage, result: StageResult) -> tuple[dict[str, str], Any]:
    """Checksums of its files, and the curve of its record."""
    store = stage.stores(result.output.uri)
    sums = read_sums(store, result.output.uri)
    assert sums is not None
    record, _ = store.get(f"{result.output.uri}training.json")
    return {name: sums[name] for name in sums if name != "training.json"}, json.loads(record)["curve"]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_its_result_is_stored_it_makes_no_step_twice(
    stage: TrainStage, kind: str, steps: list[tuple[str, int]], patch: pytest.MonkeyPatch
) -> None:
    number = list(KINDS).index(kind)
    undisturbed = attempt(stage.request(f"calm-{number}", PAIRS, **KINDS[kind]), 1)
    made = list(steps)
    request = stage.request(f"killed-{number}", PAIRS, **KINDS[kind])
    with patch.context() as first:
        first.setattr(main, "store_result", killed)
        with pytest.raises(KilledError):
            attempt(request, 1)
    assert stage.stores(stage.root).stat(f"{request.folder}candidate/SHA256SUMS") is not None
    result = attempt(request, 2)
    assert steps == made * 2
    assert candidate(stage, result) == candidate(stage, undisturbed)
    assert undisturbed.training is not None
    assert undisturbed.training.pairs_per_second is not None
    assert result.training is not None
    assert result.training.pairs_per_second is None, "an attempt that had nothing left to train has no pace"
    assert checkpoints(stage, request) == [], "no longer needed"


def test_killed_right_after_its_result_is_stored_it_leaves_no_checkpoint(
    stage: TrainStage, steps: list[tuple[str, int]], patch: pytest.MonkeyPatch
) -> None:
    request = stage.request("after", PAIRS, **LORA)
    with patch.context() as first:
        first.setattr(main, "forget", killed)
        with pytest.raises(KilledError):
            attempt(request, 1)
    assert checkpoints(stage, request)
    made = list(steps)
    attempt(request, 2)
    assert steps == made
    assert checkpoints(stage, request) == []


def test_checkpoints_that_cannot_be_removed_fail_no_training(
    stage: TrainStage, patch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise TemporaryError("the store is away", reason="StoreUnavailable")

    request = stage.request("away", PAIRS, **LORA)
    patch.setattr(main, "forget", away)
    assert attempt(request, 1).training is not None
    assert "checkpoints were left: the store is away" in caplog.text
