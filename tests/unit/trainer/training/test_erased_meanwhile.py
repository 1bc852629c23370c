"""Somebody is erased while a candidate is trained: what learned from them is not stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment_api.names import StageName
from alignment_trainer.errors import RequestError
from alignment_trainer.storage.folders import list_folder, upload_folder
from support.material import pair
from support.publishing import SilentProgress
from support.trainstage import TrainStage

pytestmark = pytest.mark.slow


class Erasing(SilentProgress):
    """Takes a pair out of the snapshot when the first step is reported, as an erasure does: other bytes, other sums."""

    def __init__(self, stage: TrainStage, snapshot: str, folder: Path) -> None:
        self._stage, self._snapshot, self._folder = stage, snapshot, folder

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        super().update(step, steps, activity=activity, metrics=metrics)
        if metrics and "loss" in metrics and not self._folder.exists():
            self._folder.mkdir()
            (self._folder / "manifest.json").write_text("{}")
            upload_folder(self._folder, self._snapshot, self._stage.stores(self._stage.root))


def test_a_candidate_of_pairs_that_were_erased_meanwhile_is_not_stored(tmp_path: Path) -> None:
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    request = stage.request("erased", [pair(number) for number in range(16)], lora={"rank": 2, "alpha": 4})
    progress = Erasing(stage, request.inputs[StageName.PREPARE].uri, tmp_path / "left")
    with pytest.raises(RequestError, match="was somebody erased meanwhile") as caught:
        stage.carry_out(request, progress)
    assert caught.value.reason == "ArtifactChanged"
    assert (tmp_path / "left").exists()
    assert list_folder(stage.stores(stage.root), f"{request.folder}candidate/") == {}
