"""A train request over given pairs, everything below one local folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignment_api.names import StageName
from alignment_api.spec import AlignmentRunSpec
from alignment_api.stage import RunIdentity, StageRequest
from alignment_api.status import Pins, SourcesPin
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.snapshot import write_split
from alignment_trainer.data.split import Side
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores

__all__ = ["request_for"]


def request_for(folder: Path, pairs: list[Pair], **training: Any) -> StageRequest:
    """The request that prepare would lead to, for the model in ``folder/model``; LoRA, one epoch unless told otherwise."""
    stores = Stores()
    data = folder / "data"
    data.mkdir()
    write_split(pairs, data, Side.TRAIN)
    root = folder.as_uri()
    snapshot = upload_folder(data, f"{root}/snapshot/", stores(root))
    settings = {"precision": "Float32", "maxLength": 512, "epochs": 1, "selectionFraction": 0, "lora": {}}
    spec = AlignmentRunSpec.model_validate(
        {
            "model": {"uri": f"{root}/model/"},
            "data": {"sources": [{"uri": "file:///none.jsonl"}]},
            "training": settings | training,
            "publish": {"uri": f"{root}/models/"},
            "artifacts": {"uri": f"{root}/artifacts/"},
        }
    )
    pin = Resolver(stores).pin(spec.model.uri)
    return StageRequest(
        stage=StageName.TRAIN,
        run=RunIdentity(name="bench", uid="00000000-0000-0000-0000-000000000000"),
        spec=spec,
        pins=Pins(
            model=pin,
            champion=pin,
            sources=SourcesPin(manifest="file:///none", digest=pin.digest, files=1, bytes=1),
        ),
        inputs={StageName.PREPARE: snapshot},
    )
