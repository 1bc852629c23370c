"""Prepare, trace and erase with sources and artifacts on a real S3 server."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import RunIdentity, StageRequest
from alignment_trainer.data.stage import run as prepare
from alignment_trainer.errors import TemporaryError
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.results import store_result
from alignment_trainer.storage.ranges import RangedObject
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import ObjectStore
from alignment_trainer.subjects.erase import erase
from alignment_trainer.subjects.subject import Subject
from alignment_trainer.subjects.trace import trace
from support.models import full_weights
from support.preparing import edit, pair, write_rows
from support.publishing import SilentProgress
from support.runs import UID, manifest
from support.s3server import S3Server
from support.tiny import save_tiny_tokenizer


def fill(bucket: str, stores: Stores, folder: Path) -> None:
    """Gzipped lines in two folders, and a parquet file."""
    for day in range(3):
        path = folder / f"day{day}.jsonl.gz"
        write_rows(path, [edit(n) for n in range(day * 30, day * 30 + 30)])
        stores(bucket).put(f"{bucket}in/2026/{day}/events.jsonl.gz", path.read_bytes())
    pq.write_table(pa.Table.from_pylist([pair(n, actor="ann") for n in range(20)]), folder / "pairs.parquet")
    stores(bucket).put(f"{bucket}in/pairs.parquet", (folder / "pairs.parquet").read_bytes())


def work(bucket: str, s3: S3Server, stores: Stores, folder: Path, scratch: str) -> StageContext:
    model = folder / "model"
    full_weights(model)
    save_tiny_tokenizer(model)
    wire = manifest(
        "notes",
        model={"uri": model.as_uri() + "/"},
        data={"sources": [{"uri": f"{bucket}in/**"}], "minimumPairs": 1, "holdout": {"fraction": 0.3}},
        publish={"uri": f"{bucket}models/"},
        artifacts={"uri": f"{bucket}artifacts/"},
        storage=s3.spec.to_wire(),
    )
    request = StageRequest(
        stage=StageName.PREPARE,
        run=RunIdentity(name="notes", namespace="team", uid=UID),
        spec=AlignmentRun.model_validate(wire).spec,
    )
    (folder / scratch).mkdir()
    return StageContext(request, stores, folder / scratch, SilentProgress(), threading.Event())


def test_sources_on_s3_become_the_same_snapshot_each_time(bucket: str, s3: S3Server, tmp_path: Path) -> None:
    stores = Stores(s3.spec)
    fill(bucket, stores, tmp_path)
    first = prepare(work(bucket, s3, stores, tmp_path, "one"))
    assert first.data is not None
    assert (first.data.rows, first.data.pairs, first.data.events) == (110, 110, 90)
    read = {
        uri: stores(bucket).get(uri)[0]
        for uri in (f"{first.output.uri}manifest.json", f"{first.output.uri}train.parquet")
    }
    again = prepare(work(bucket, s3, stores, tmp_path, "two"))
    assert again.output == first.output
    assert {uri: stores(bucket).get(uri)[0] for uri in read} == read
    sources = json.loads(read[f"{first.output.uri}manifest.json"])["sources"]
    assert [s["uri"].removeprefix(bucket) for s in sources] == [
        "in/2026/0/events.jsonl.gz", "in/2026/1/events.jsonl.gz", "in/2026/2/events.jsonl.gz", "in/pairs.parquet",
    ]  # fmt: skip
    assert all(s["etag"] and len(s["sha256"]) == 64 for s in sources)


def test_a_subject_is_traced_and_erased_on_s3(bucket: str, s3: S3Server, tmp_path: Path) -> None:
    stores = Stores(s3.spec)
    fill(bucket, stores, tmp_path)
    context = work(bucket, s3, stores, tmp_path, "one")
    store_result(context.request, prepare(context), stores(bucket))
    ann = Subject(frozenset({"ann"}))
    found = trace(f"{bucket}artifacts/", ann, stores)
    assert len(found.runs[0].pairs) == 20
    assert found.runs[0].pairs[0].source == f"{bucket}in/pairs.parquet"
    assert erase(f"{bucket}artifacts/", ann, stores, tmp_path / "erasing").pairs == 20
    assert not any(run.pairs for run in trace(f"{bucket}artifacts/", ann, stores).runs)
    later = prepare(work(bucket, s3, stores, tmp_path, "two"))
    assert later.data is not None
    assert later.data.excluded == 20


def test_a_source_replaced_while_it_is_read_is_read_anew(bucket: str, s3: S3Server, tmp_path: Path) -> None:
    """Also by content of the same length: listing, hash and rows must be of one version."""
    stores = Stores(s3.spec)
    fill(bucket, stores, tmp_path)
    victim = f"{bucket}in/2026/1/events.jsonl.gz"

    class Replacing:
        def __init__(self, store: ObjectStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> object:
            return getattr(self._store, name)

        @contextmanager
        def open(self, uri: str, **options: int) -> Iterator[BinaryIO]:
            with self._store.open(uri, **options) as stream:
                yield stream
            if uri == victim:
                self._store.put(uri, bytes(self._store.get(uri)[0][::-1]))

    replacing = Replacing(stores(bucket))
    context = work(bucket, s3, stores, tmp_path, "one")
    context = StageContext(
        context.request,
        lambda uri: replacing if uri.startswith("s3://") else stores(uri),  # type: ignore[arg-type,return-value]
        context.scratch,
        context.progress,
        context.stop,
    )
    with pytest.raises(TemporaryError, match="replaced while it was read") as refused:
        prepare(context)
    assert victim in str(refused.value)


def test_an_object_is_read_by_ranges(bucket: str, s3: S3Server) -> None:
    store = Stores(s3.spec)(bucket)
    content = bytes(range(256)) * 100
    info = store.put(f"{bucket}x", content)
    ranged = RangedObject(info, store)
    assert ranged.seek(-10, io.SEEK_END) == len(content) - 10
    assert ranged.read(20) == content[-10:]
    assert ranged.read(1) == b""
    ranged.seek(500)
    assert (ranged.read(7), ranged.tell()) == (content[500:507], 507)
    assert ranged.seek(3, io.SEEK_CUR) == 510
