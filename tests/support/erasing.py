"""Runs that were carried out up to publication without any model, and stores that die: what trace and erase are tried on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_api.names import StageName
from alignment_api.stage import ArtifactRef, StageRequest, StageResult
from alignment_api.status import PublishedModel
from alignment_trainer.data.exclusions import EXCLUSIONS, add_exclusions
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.snapshot import read_split
from alignment_trainer.data.split import Side
from alignment_trainer.data.stage import run as prepare
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.results import store_result
from alignment_trainer.storage.folders import fetch_folder, read_sums, sums_digest, upload_folder
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import Condition, ObjectInfo
from alignment_trainer.subjects.subject import Kind, Subject
from support.models import full_weights
from support.preparing import context, edit, pair, signal, write_rows
from support.runs import DIGEST, START

stores = Stores()
SECRET = "Ann Smith of Mill Lane 7 came in with a broken wheel and a long story to tell."


def rows() -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [edit(n, actor=f"nurse{n % 4}") for n in range(60)]
    out += [
        edit(900, id="link1", actor="ann", group="family", prompt=SECRET),
        edit(
            900,
            id="link2",
            actor="bob",
            group="family",
            prompt=SECRET,
            response=edit(900)["edited"],
            edited="At last the family " * 4,
        ),
        signal("accept", 901, "Soup", id="yes", actor="ann"),
        signal("thumbs_down", 901, "Nails", id="no", actor="eve"),
        pair(902, actor="ann", prompt="What did Ann want?"),
    ]
    return out


def of(name: str, *kinds: Kind) -> Subject:
    """The subject of one name."""
    return Subject(frozenset({name}), frozenset(kinds or Kind))


class World:
    """Runs that were carried out up to publication, without any model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = write_rows(folder / "rows.jsonl", rows())
        self.artifacts = ""

    def run(self, number: int, *, model: str | None = None, published: bool = True) -> StageContext:
        """One run on all rows; ``model``: the version that it goes on from."""
        uid = f"{number:08d}-aaaa"
        data = {"sources": [{"uri": self.source}], "holdout": {"fraction": 0.3}}
        ready = context(self.folder, self.folder / "scratch", **data)
        wire = ready.request.to_wire()
        wire["run"]["uid"] = uid
        wire["run"]["name"] = f"run{number}"
        if model is not None:
            wire["spec"]["model"]["uri"] = model
        request = StageRequest.model_validate(wire)
        work = StageContext(request, stores, self.folder / f"scratch-{number}", ready.progress, ready.stop)
        work.scratch.mkdir()
        self.artifacts = request.spec.artifacts.uri
        result = prepare(work)
        store_result(request, result, stores(request.folder))
        self._finish(request, result, number, published=published)
        return work

    def _finish(self, request: StageRequest, result: StageResult, number: int, *, published: bool) -> None:
        candidate = ArtifactRef(uri=f"{request.folder}candidate/", digest=DIGEST)
        self._result(request, StageName.TRAIN, candidate)
        self._evaluation(request, result)
        if published:
            version = f"run{number}-{request.run.uid[:8]}"
            folder = self.folder / "published" / "versions" / version
            uri = full_weights(folder, content=version.encode())
            (folder / "tokenizer.json").write_bytes((self.folder / "model" / "tokenizer.json").read_bytes())
            lineage = {
                "inputs": {
                    StageName.PREPARE: result.output.to_wire(),
                    StageName.TRAIN: candidate.to_wire(),
                },
                "pins": result.pins.to_wire() if result.pins is not None else {},
            }
            (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
            upload_folder(folder, uri, stores(uri))
            model = PublishedModel(uri=uri, version=version, digest=DIGEST)
            self._result(request, StageName.PUBLISH, ArtifactRef(uri=uri, digest=DIGEST), published=model)

    def _result(self, request: StageRequest, stage: StageName, output: ArtifactRef, **extra: Any) -> None:
        result = StageResult(
            stage=stage, input_digest=DIGEST, output=output, started_time=START, finished_time=START, **extra
        )
        stores(request.folder).put(
            f"{request.folder}results/{stage}.json",
            result.model_dump_json(by_alias=True, exclude_none=True).encode(),
        )

    def _evaluation(self, request: StageRequest, result: StageResult) -> None:
        data = fetch_folder(result.output, stores(result.output.uri), self.folder)
        pairs = list(read_split(data, Side.HOLDOUT))
        local = self.folder / f"evaluation-{request.run.name}"
        local.mkdir()
        lines = [
            json.dumps(
                {"pairId": p.pair_id, "prompt": p.prompt, "final": p.chosen, "candidate": "x\u2028y\x85z"},
                ensure_ascii=False,
            )
            for p in pairs
        ]
        (local / "generations.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pq.write_table(
            pa.table({"pair_id": [p.pair_id for p in pairs], "score": [1.0] * len(pairs)}),
            local / "scores.parquet",
        )
        upload_folder(local, f"{request.folder}evaluation/", stores(request.folder))

    def add(self, row: dict[str, Any]) -> None:
        """One more row for later runs."""
        write_rows(self.folder / "rows.jsonl", [*rows(), row])

    def exclude(self, actor: str) -> None:
        """Keep an actor out of what later runs learn from."""
        uri = f"{self.artifacts}{EXCLUSIONS}"
        add_exclusions(uri, [{"actor": actor}], stores(uri))

    def pairs(self, work: StageContext) -> dict[Side, list[Pair]]:
        """What a run's snapshot holds now, verified by its checksums."""
        uri = f"{work.request.folder}data/"
        sums = read_sums(stores(uri), uri)
        assert sums is not None
        data = fetch_folder(ArtifactRef(uri=uri, digest=sums_digest(sums)), stores(uri), self.folder)
        return {side: list(read_split(data, side)) for side in Side}


class Dying(LocalStore):
    """Ends the process, as it were, after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        self._count()
        return super().put(uri, data, condition=condition)

    def upload(self, source: Path, uri: str) -> ObjectInfo:
        self._count()
        return super().upload(source, uri)

    def delete(self, uri: str) -> None:
        self._count()
        super().delete(uri)
