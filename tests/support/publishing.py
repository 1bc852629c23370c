"""A run that has everything publish needs: candidate, evaluation, results, request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.spec import Decision
from alignment_api.stage import ArtifactRef, RunIdentity, StageRequest, StageResult, TrainingSummary
from alignment_api.status import Funnel, Pins, SourcesPin
from alignment_api.verdict import CriterionVerdict, Result, Verdict
from alignment_trainer.models.resolve import pin_models
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import ObjectStore
from support.runs import DIGEST, START, manifest

StoreOf = Callable[[str], ObjectStore]


class SilentProgress:
    """Keeps the latest word."""

    step = 0
    steps = 0

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        self.step, self.steps = step, steps


class Publishable:
    """A run below ``root`` (a folder URI) whose candidate is the local folder ``candidate``.

    The pins are made when this is built: publish alias and model as they are then.
    """

    def __init__(
        self,
        root: str,
        candidate: Path,
        model_uri: str,
        *,
        name: str = "notes",
        uid: str = "12345678-aaaa",
        verdict: Result = Result.PASSED,
        decision: Decision | None = None,
        stores: StoreOf | None = None,
        storage: dict[str, str] | None = None,
    ) -> None:
        self.stores = stores or Stores()
        wire = manifest(
            name,
            model={"uri": model_uri},
            publish={"uri": uris.join(root, "publish") + "/"},
            artifacts={"uri": uris.join(root, "artifacts") + "/"},
            storage=storage or {},
        )
        spec = AlignmentRun.model_validate(wire).spec
        models = pin_models(spec, self.stores)
        identity = RunIdentity(name=name, namespace="team", uid=uid)
        skeleton = StageRequest(stage=StageName.PUBLISH, run=identity, spec=spec)
        self.folder = skeleton.folder
        evaluation = candidate.parent / f"{name}-evaluation"
        evaluation.mkdir(exist_ok=True)
        (evaluation / "report.json").write_text("{}")
        (evaluation / "report.html").write_text("<html></html>")
        data = candidate.parent / f"{name}-data"
        data.mkdir(exist_ok=True)
        (data / "manifest.json").write_text("{}")
        inputs = {
            StageName.PREPARE: self._upload(data, "data/"),
            StageName.TRAIN: self._upload(candidate, "candidate/"),
            StageName.EVALUATE: self._upload(evaluation, "evaluation/"),
        }
        self.pins = Pins(
            model=models.model,
            champion=models.champion,
            champion_is_model=models.champion_is_model,
            alias_etag=models.alias_etag,
            sources=SourcesPin(manifest=f"{self.folder}data/manifest.json", digest=DIGEST, files=1, bytes=10),
        )
        for stage, output in inputs.items():
            self._write_result(stage, output)
        self.request = skeleton.model_copy(
            update={
                "inputs": inputs,
                "pins": self.pins,
                "verdict": Verdict(
                    result=verdict,
                    criteria=(
                        CriterionVerdict(
                            name="edits", metric="editBurden", result=verdict, estimate=-0.07, bound=-0.05
                        ),
                    ),
                    decided_time=START,
                ),
                "decision": decision,
            }
        )

    def context(self, scratch: Path, stores: StoreOf | None = None) -> StageContext:
        """What the stage is given; ``stores`` may be unreliable ones."""
        scratch.mkdir(parents=True, exist_ok=True)
        return StageContext(
            request=self.request,
            store=stores or self.stores,
            scratch=scratch,
            progress=SilentProgress(),
            stop=threading.Event(),
        )

    def _upload(self, source: Path, name: str) -> ArtifactRef:
        return upload_folder(source, self.folder + name, self.stores(self.folder))

    def _write_result(self, stage: StageName, output: ArtifactRef) -> None:
        funnel = Funnel(rows=100, pairs=90, train=70, holdout=20, groups=30, holdout_groups=6, invalid=10)
        result = StageResult(
            stage=stage,
            input_digest=DIGEST,
            output=output,
            started_time=START,
            finished_time=START,
            data=funnel if stage is StageName.PREPARE else None,
            training=TrainingSummary(steps=50, pairs=70, final_loss=0.5)
            if stage is StageName.TRAIN
            else None,
            headline="editBurden -0.07 [-0.10, -0.05]" if stage is StageName.EVALUATE else None,
        )
        uri = f"{self.folder}results/{stage}.json"
        self.stores(uri).put(uri, result.model_dump_json(by_alias=True, exclude_none=True).encode())
