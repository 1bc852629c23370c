"""The train stage without a run around it: a tiny real model, invented edits, everything below one root URI."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alignment_api.names import StageName
from alignment_api.spec import AlignmentRunSpec
from alignment_api.stage import RunIdentity, StageRequest, StageResult
from alignment_api.status import Pins, SourcesPin
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.snapshot import write_split
from alignment_trainer.data.split import Side
from alignment_trainer.models.fetch import LocalModel, fetch_model
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.stage import run
from support.publishing import SilentProgress
from support.tiny import save_tiny_model

__all__ = ["TrainStage", "Trained", "losses_of"]

_QUICK = {"precision": "Float32", "maxLength": 128, "epochs": 1, "pairsPerStep": 8, "selectionFraction": 0}


@dataclass(frozen=True)
class Trained:
    """What one stage left. record: its ``training.json``; model: the candidate, fetched."""

    result: StageResult
    record: dict[str, Any]
    model: LocalModel

    @property
    def losses(self) -> list[float]:
        """Loss of each step."""
        return losses_of(self.record)


def losses_of(record: dict[str, Any]) -> list[float]:
    """Loss of each step, as the ``training.json`` of a candidate has it."""
    return [entry["loss"] for entry in record["curve"] if "loss" in entry]


@dataclass
class TrainStage:
    """Train stages that share model and artifacts. root: file:// or s3:// URI ending in ``/``; scratch: local."""

    root: str
    scratch: Path
    stores: Stores = field(default_factory=Stores)
    storage: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        save_tiny_model(self.scratch / "base")
        self.model = upload_folder(self.scratch / "base", self.root + "base/", self.stores(self.root)).uri

    def request(self, name: str, pairs: Sequence[Pair], **training: Any) -> StageRequest:
        """A request over a snapshot of exactly these train pairs and a holdout that no parquet reader can open.

        ``training`` is laid over a quick one; what is None there is left to the defaults.
        """
        assert quote(name) == name, (
            f"the checkpoints of {name!r} would not be found, and nothing would be resumed"
        )
        model = training.pop("model", self.model)
        data = self.scratch / name / "data"
        data.mkdir(parents=True)
        write_split(pairs, data, Side.TRAIN)
        (data / "holdout.parquet").write_bytes(b"whoever reads this, fails")
        snapshot = upload_folder(data, f"{self.root}snapshots/{name}/", self.stores(self.root))
        spec = AlignmentRunSpec.model_validate(
            {
                "model": {"uri": model},
                "data": {"sources": [{"uri": "file:///none.jsonl"}]},
                "training": {name: value for name, value in (_QUICK | training).items() if value is not None},
                "publish": {"uri": f"{self.root}models/"},
                "artifacts": {"uri": f"{self.root}artifacts/"},
                "storage": self.storage,
            }
        )
        pin = Resolver(self.stores).pin(spec.model.uri)
        return StageRequest(
            stage=StageName.TRAIN,
            run=RunIdentity(name=name, uid=f"{abs(hash(name)):032x}"),
            spec=spec,
            pins=Pins(
                model=pin,
                champion=pin,
                sources=SourcesPin(manifest="file:///none", digest=pin.digest, files=1, bytes=1),
            ),
            inputs={StageName.PREPARE: snapshot},
        )

    def run(self, name: str, pairs: Sequence[Pair], **training: Any) -> Trained:
        """Carry out one stage in this process."""
        return self.carry_out(self.request(name, pairs, **training))

    def carry_out(
        self,
        request: StageRequest,
        progress: SilentProgress | None = None,
        stop: threading.Event | None = None,
    ) -> Trained:
        """Carry out a request in this process; it finds what an earlier attempt stored, and no file of its machine.

        stop: what the program sets when SIGTERM comes.
        """
        scratch = Path(tempfile.mkdtemp(dir=self.scratch))
        context = StageContext(
            request, self.stores, scratch, progress or SilentProgress(), stop or threading.Event()
        )
        result = run(context)
        model = fetch_model(result.output, self.stores, scratch / "candidate-fetched")
        record = json.loads((model.folder / "training.json").read_text(encoding="utf-8"))
        return Trained(result, record, model)
