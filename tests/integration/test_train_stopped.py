"""A train stage that is told to stop: it saves, exits 143, and the next attempt ends where an undisturbed one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import StageFailure, StageRequest, StageResult, read_termination_message
from alignment_trainer.models.fetch import fetch_model
from support.material import pair
from support.trainstage import TrainStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAIRS = [pair(number) for number in range(64)]
TRAINING: dict[str, Any] = {"epochs": 3, "learningRate": 1e-4, "lora": {"rank": 4, "alpha": 8}}
STEPS = 3 * 64 // 8


@pytest.fixture
def stage(tmp_path: Path) -> TrainStage:
    return TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)


class Attempt:
    """One attempt as a process of its own, as both executors start it."""

    def __init__(self, request: StageRequest, folder: Path, number: int) -> None:
        folder.mkdir(exist_ok=True)
        self.progress = folder / f"progress-{number}.json"
        self._last_word = folder / f"termination-{number}.log"
        file = folder / f"request-{number}.json"
        file.write_text(
            json.dumps(request.model_copy(update={"attempt": number}).to_wire()), encoding="utf-8"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "alignment_trainer.main", "train", "--request", str(file)],
            env=os.environ
            | {
                "ALIGNMENT_PROGRESS_FILE": str(self.progress),
                "ALIGNMENT_TERMINATION_LOG": str(self._last_word),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def step(self) -> int:
        """Optimizer steps done, as told to who watches."""
        try:
            wire = json.loads(self.progress.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0
        return int(wire["step"]) if wire["activity"] == "training" else 0

    def terminate_at(self, step: int) -> None:
        while self.step() < step:
            assert self._process.poll() is None, "it ended before it was told to"
            time.sleep(0.02)  # a file of another process has no event to wait for
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> tuple[int, StageResult | StageFailure | None]:
        code = self._process.wait(300)
        return code, read_termination_message(self._last_word.read_text(encoding="utf-8"))


def weights(stage: TrainStage, result: StageResult, folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(fetch_model(result.output, stage.stores, folder).folder / "adapter_model.safetensors")


def test_sigterm_saves_a_checkpoint_and_the_next_attempt_loses_nothing(
    stage: TrainStage, tmp_path: Path
) -> None:
    import torch

    request = stage.request("stopped", PAIRS, **TRAINING)
    first = Attempt(request, tmp_path / "attempts", 1)
    first.terminate_at(2)
    code, word = first.wait()
    assert code == 143
    assert isinstance(word, StageFailure)
    assert word.message.endswith(f"of {STEPS}; the checkpoint is stored.")
    stopped_at = int(word.message.split()[3])
    assert 2 <= stopped_at < STEPS
    kept = [info.uri for info in stage.stores(stage.root).list(f"{request.folder}checkpoints/")]
    assert any(f"/checkpoint-{stopped_at}/" in uri for uri in kept)

    second = Attempt(request, tmp_path / "attempts", 2)
    code, word = second.wait()
    assert code == 0
    assert isinstance(word, StageResult)
    assert list(stage.stores(stage.root).list(f"{request.folder}checkpoints/")) == [], "no longer needed"

    whole = stage.run("undisturbed", PAIRS, **TRAINING)
    ours, theirs = weights(stage, word, tmp_path / "ours"), weights(stage, whole.result, tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6)
