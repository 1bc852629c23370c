"""Somebody is erased while a candidate is evaluated: what it generated of them is not stored."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_api.names import StageName
from alignment_api.stage import ArtifactRef, StageResult
from alignment_trainer.data.stage import run as prepare
from alignment_trainer.errors import RequestError
from alignment_trainer.evaluation import stage
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import list_folder, upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.subjects.erase import erase
from alignment_trainer.subjects.subject import Subject
from support.preparing import context, edit, write_rows
from support.tiny import save_tiny_model

pytestmark = pytest.mark.slow
stores = Stores()


@pytest.fixture
def evaluating(tmp_path: Path) -> StageContext:
    """What evaluate is given; the candidate is the model itself."""
    save_tiny_model(tmp_path / "model")
    rows = write_rows(tmp_path / "rows.jsonl", [edit(n) for n in range(40)])
    short = {"generation": {"maxNewTokens": 4}}
    given = context(tmp_path, tmp_path / "scratch", sources=[{"uri": rows}], evaluation=short)
    result: StageResult = prepare(given)
    shutil.copytree(tmp_path / "model", tmp_path / "candidate")
    (tmp_path / "candidate" / "training.json").write_text('{"curve": []}')
    folder = f"{given.request.folder}candidate/"
    candidate: ArtifactRef = upload_folder(tmp_path / "candidate", folder, stores(folder))
    inputs = {StageName.PREPARE: result.output, StageName.TRAIN: candidate}
    update = {"stage": StageName.EVALUATE, "pins": result.pins, "inputs": inputs}
    return replace(given, request=given.request.model_copy(update=update))


def test_an_evaluation_is_stored_where_nobody_was_erased(evaluating: StageContext) -> None:
    stored = list_folder(stores(evaluating.request.folder), stage.run(evaluating).output.uri)
    assert "generations.jsonl" in stored


def test_an_evaluation_of_pairs_that_were_erased_meanwhile_is_not_stored(
    evaluating: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = stage._gather

    def erasing(*given: Any, **options: Any) -> Any:
        material = gather(*given, **options)
        victim = Subject(frozenset({material.pairs[0].event_ids[0]}))
        erase(evaluating.request.spec.artifacts.uri, victim, stores, tmp_path / "erasing")
        return material

    monkeypatch.setattr(stage, "_gather", erasing)
    with pytest.raises(RequestError, match="was somebody erased meanwhile") as caught:
        stage.run(evaluating)
    assert caught.value.reason == "ArtifactChanged"
    assert list_folder(stores(evaluating.request.folder), f"{evaluating.request.folder}evaluation/") == {}
