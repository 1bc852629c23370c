"""Early stopping that does not cheat: training chooses its checkpoint on the train side and never reads the holdout."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from alignment_api.names import StageName
from alignment_api.spec import AlignmentRunSpec
from alignment_api.stage import RunIdentity, StageRequest
from alignment_api.status import Pins, SourcesPin
from alignment_trainer.data.snapshot import write_split
from alignment_trainer.data.split import Side
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.dataset import select_slice
from alignment_trainer.training.stage import run as train
from support.material import pair
from support.tiny import save_tiny_model

pytestmark = pytest.mark.slow


class Quiet:
    def update(self, step: int, steps: int, *, activity: str = "", metrics: Any = None) -> None:
        """Nobody watches."""


GENTLE: dict[str, Any] = {"precision": "Float32", "maxLength": 128, "epochs": 1, "learningRate": 1e-3}


def context_in(folder: Path, training: dict[str, Any] = GENTLE, pairs: int = 200) -> StageContext:
    """A train stage whose snapshot holds a holdout that no parquet reader can open."""
    stores = Stores()
    save_tiny_model(folder / "base")
    data = folder / "data"
    data.mkdir()
    write_split([pair(number, group=f"g{number}") for number in range(pairs)], data, Side.TRAIN)
    (data / "holdout.parquet").write_bytes(b"whoever reads this, fails")
    snapshot = upload_folder(data, (folder / "snapshot").as_uri() + "/", stores(folder.as_uri()))
    spec = AlignmentRunSpec.model_validate(
        {
            "model": {"uri": (folder / "base").as_uri() + "/"},
            "data": {"sources": [{"uri": "file:///none.jsonl"}]},
            "training": training,
            "publish": {"uri": (folder / "models").as_uri() + "/"},
            "artifacts": {"uri": (folder / "artifacts").as_uri() + "/"},
        }
    )
    pin = Resolver(stores).pin(spec.model.uri)
    request = StageRequest(
        stage=StageName.TRAIN,
        run=RunIdentity(name="r", uid="00000000-0000-0000-0000-000000000000"),
        spec=spec,
        pins=Pins(
            model=pin,
            champion=pin,
            sources=SourcesPin(manifest="file:///none", digest=pin.digest, files=1, bytes=1),
        ),
        inputs={StageName.PREPARE: snapshot},
    )
    scratch = folder / "scratch"
    scratch.mkdir()
    return StageContext(
        request=request, store=stores, scratch=scratch, progress=Quiet(), stop=threading.Event()
    )


def test_training_selects_on_its_own_side_and_works_with_an_unreadable_holdout(tmp_path: Path) -> None:
    result = train(context_in(tmp_path))
    candidate = Path(result.output.uri.removeprefix("file://"))
    record = json.loads((candidate / "training.json").read_text(encoding="utf-8"))
    assert record["selectionPairs"] >= 16
    assert record["trainPairs"] + record["selectionPairs"] == 200, "both slices come from the train side"
    evaluated = [entry for entry in record["curve"] if "eval_loss" in entry]
    assert evaluated, "the checkpoint was chosen by the selection slice's loss"


def test_a_spec_that_says_nothing_of_training_trains(tmp_path: Path) -> None:
    """Full weights in bfloat16, engine Auto."""
    result = train(context_in(tmp_path, {}, pairs=24))
    assert result.training is not None
    assert result.training.engine == "PrefixShared"
    assert result.training.final_loss is not None
    assert math.isfinite(result.training.final_loss)


def test_the_selection_slice_keeps_groups_whole() -> None:
    pairs = [pair(number, group=f"g{number % 40}") for number in range(400)]
    kept, apart = select_slice(pairs, 0.2)
    assert {p.group for p in kept}.isdisjoint({p.group for p in apart})
    assert len(kept) + len(apart) == 400
    assert apart
