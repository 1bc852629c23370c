"""The training curve: every step's loss and rewards, and now and then what costs a pass over the vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.material import pair
from support.trainstage import TrainStage

pytestmark = pytest.mark.slow


def test_statistics_of_tokens_are_noted_every_ten_steps_and_at_both_ends(tmp_path: Path) -> None:
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    trained = stage.run("curve", [pair(number) for number in range(48)], lora={}, pairsPerStep=2)
    curve = [entry for entry in trained.record["curve"] if "loss" in entry]
    assert [entry["step"] for entry in curve] == list(range(1, 25))
    assert all("rewards/margins" in entry for entry in curve)
    for name in ("entropy", "logits/chosen", "mean_token_accuracy"):
        assert [entry["step"] for entry in curve if name in entry] == [1, 10, 20, 24]
    entropies = [entry["entropy"] for entry in curve if "entropy" in entry]
    assert min(entropies) > 1, "what is noted is measured, not the blanks of other steps averaged in"
