"""Folders, models and publishing with every URI on a real S3 server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from alignment_api.stage import ArtifactRef, StageResult
from alignment_trainer.errors import RequestError
from alignment_trainer.models.aliases import alias_uri, read_alias, set_alias, versions
from alignment_trainer.models.fetch import fetch_model
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.publishing.stage import run
from alignment_trainer.storage.folders import SUMS, fetch_folder, list_folder, read_sums, upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import ObjectStore
from support.faultproxy import Fault, proxied
from support.models import full_weights
from support.publishing import Publishable
from support.runs import START
from support.s3server import S3Server
from support.unreliable import KilledError, Killing


@pytest.fixture
def stores(s3: S3Server) -> Stores:
    return Stores(s3.spec)


@pytest.fixture
def base(stores: Stores, bucket: str, tmp_path: Path) -> str:
    full_weights(tmp_path / "base")
    return upload_folder(tmp_path / "base", bucket + "base/", stores(bucket)).uri


def publishable(stores: Stores, bucket: str, base: str, tmp_path: Path, name: str) -> Publishable:
    full_weights(tmp_path / name, content=name.encode() * 1000)
    return Publishable(bucket.rstrip("/"), tmp_path / name, base, name=name, stores=stores)


def test_folder_goes_there_and_back_and_is_downloaded_once(
    stores: Stores, bucket: str, tmp_path: Path
) -> None:
    full_weights(tmp_path / "model", content=bytes(3_000_000))
    ref = upload_folder(tmp_path / "model", bucket + "a/b", stores(bucket))
    here = fetch_folder(ref, stores(bucket), tmp_path / "scratch")
    assert (here / "model.safetensors").read_bytes() == bytes(3_000_000)
    stores(bucket).delete(bucket + "a/b/model.safetensors")
    assert fetch_folder(ref, stores(bucket), tmp_path / "scratch") == here


def test_interrupted_download_goes_on_with_what_is_missing(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    full_weights(tmp_path / "model", content=bytes(3_000_000))
    with proxied(s3.endpoint) as proxy:
        stores = Stores(s3.spec.model_copy(update={"endpoint": proxy.endpoint}))
        ref = upload_folder(tmp_path / "model", bucket + "m", stores(bucket))
        proxy.faults = [Fault("GET", "tokenizer.json", status=403, code="AccessDenied")]
        with pytest.raises(RequestError):
            fetch_folder(ref, stores(bucket), tmp_path / "scratch")
        proxy.seen.clear()
        fetch_folder(ref, stores(bucket), tmp_path / "scratch")
        assert [
            path for method, path, _ in proxy.seen if method == "GET" and "model.safetensors" in path
        ] == []


def test_upload_again_sends_no_weights(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    full_weights(tmp_path / "model", content=bytes(3_000_000))
    with proxied(s3.endpoint) as proxy:
        store = Stores(s3.spec.model_copy(update={"endpoint": proxy.endpoint}))(bucket)
        upload_folder(tmp_path / "model", bucket + "m", store)
        store.delete(bucket + f"m/{SUMS}")  # killed before the last write
        proxy.seen.clear()
        upload_folder(tmp_path / "model", bucket + "m", store)
        assert [
            path.split("?")[0].rsplit("/", 1)[1] for method, path, _ in proxy.seen if method == "PUT"
        ] == [SUMS]


def test_model_without_sums_is_pinned_by_what_it_holds(stores: Stores, bucket: str, tmp_path: Path) -> None:
    full_weights(tmp_path / "model")
    pinned = Resolver(stores).pin((tmp_path / "model").as_uri())
    for path in (tmp_path / "model").iterdir():
        stores(bucket).put(bucket + f"raw/{path.name}", path.read_bytes())
    pin = Resolver(stores, bucket + "cache/digests").pin(bucket + "raw")
    assert pin.digest == pinned.digest
    local = fetch_model(pin, stores, tmp_path / "scratch", cache=bucket + "cache/digests")
    assert (local.folder / "model.safetensors").read_bytes() == b"weights"


def test_published_version_is_copied_on_the_server(
    s3: S3Server, bucket: str, base: str, tmp_path: Path
) -> None:
    with proxied(s3.endpoint) as proxy:
        stores = Stores(s3.spec.model_copy(update={"endpoint": proxy.endpoint}))
        work = publishable(stores, bucket, base, tmp_path, "notes")
        proxy.seen.clear()
        result = run(work.context(tmp_path / "scratch"))
        assert result.published is not None
        moved = [
            path
            for method, path, headers in proxy.seen
            if "model.safetensors" in path and method in ("GET", "POST")
        ]
        assert moved == []
        pin = Resolver(stores).pin(alias_uri(work.request.spec.publish.uri, "champion"))
        assert (pin.digest, pin.version) == (result.published.digest, "notes-12345678")


def test_of_runs_that_publish_at_once_one_moves_the_alias(
    stores: Stores, bucket: str, base: str, tmp_path: Path
) -> None:
    works = [publishable(stores, bucket, base, tmp_path, f"run{n}") for n in range(4)]
    results: list[StageResult] = []
    threads = [
        threading.Thread(target=lambda w=w, n=n: results.append(run(w.context(tmp_path / f"s{n}"))))
        for n, w in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publish = works[0].request.spec.publish.uri
    found = read_alias(alias_uri(publish, "champion"), stores(publish))
    assert found is not None
    assert [r.published.version for r in results if r.published and not r.champion_moved] == [
        found[0].target.version
    ]
    assert len(versions(publish, stores(publish))) == 4


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_killed_at_any_change_the_next_attempt_publishes_once(
    stores: Stores, bucket: str, base: str, tmp_path: Path, late: bool
) -> None:
    work = publishable(stores, bucket, base, tmp_path, "notes")
    publish = work.request.spec.publish.uri
    folder = publish + "versions/notes-12345678/"
    attempts = 0

    def attempt(store: ObjectStore) -> None:
        run(work.context(tmp_path / "scratch", lambda _: store))

    while True:
        with Killing(stores(bucket), after=attempts, late=late).as_store() as dying:
            try:
                attempt(dying)
                break
            except KilledError:
                attempts += 1
        found = read_alias(alias_uri(publish, "champion"), stores(publish))
        if found is not None:
            sums = read_sums(stores(folder), folder)
            assert sums is not None
            assert set(sums) | {SUMS} == set(list_folder(stores(folder), folder))
    assert attempts > 5
    assert versions(publish, stores(publish)) == ("notes-12345678",)
    here = fetch_folder(
        ArtifactRef(uri=folder, digest=Resolver(stores).pin(folder).digest), stores(folder), tmp_path / "back"
    )
    assert (here / "model.safetensors").read_bytes() == b"notes" * 1000


def test_rollback_on_s3(stores: Stores, bucket: str, base: str, tmp_path: Path) -> None:
    first = publishable(stores, bucket, base, tmp_path, "first")
    run(first.context(tmp_path / "scratch"))
    second = publishable(stores, bucket, base, tmp_path, "second")
    run(second.context(tmp_path / "scratch"))
    publish = first.request.spec.publish.uri
    back = set_alias(publish, "champion", "first-12345678", stores(publish), now=START)
    assert (back.target.version, back.previous and back.previous.version) == (
        "first-12345678",
        "second-12345678",
    )
