"""Retention: what is old goes, unless something points to it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alignment_trainer.models.aliases import set_alias
from alignment_trainer.publishing.retention import (
    collect_expired,
    delete_expired,
    expired_runs,
    run_folders,
)
from alignment_trainer.publishing.stage import run
from alignment_trainer.runtime.results import store_result
from alignment_trainer.storage.folders import list_folder
from alignment_trainer.storage.registry import Stores
from support.models import full_weights
from support.publishing import Publishable

stores = Stores()
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def artifacts(tmp_path: Path) -> str:
    return (tmp_path / "storage" / "artifacts").as_uri() + "/"


def old_object(uri: str, days: float) -> None:
    stores(uri).put(uri, b"x")
    path = stores(uri).local_path(uri)
    assert path is not None
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))


def age(folder: str, days: float) -> None:
    for info in list_folder(stores(folder), folder).values():
        path = stores(folder).local_path(info.uri)
        assert path is not None
        moment = (NOW - timedelta(days=days)).timestamp()
        os.utime(path, (moment, moment))


def expired(artifacts: str) -> list[str]:
    return [r.version for r in expired_runs(artifacts, stores, now=NOW, retention_days=90)]


def test_run_goes_when_its_newest_object_is_older_than_the_retention(artifacts: str) -> None:
    old_object(artifacts + "runs/team/a-1/data/train.parquet", 200)
    old_object(artifacts + "runs/team/a-1/results/prepare.json", 91)
    old_object(artifacts + "runs/team/b-1/data/train.parquet", 200)
    old_object(artifacts + "runs/team/b-1/results/prepare.json", 89)
    assert expired(artifacts) == ["a-1"]
    assert collect_expired(artifacts, stores, now=NOW, retention_days=90) == (artifacts + "runs/team/a-1/",)
    assert [r.version for r in run_folders(artifacts, stores)] == ["b-1"]


def test_each_run_is_kept_for_the_days_it_was_given_itself(artifacts: str) -> None:
    for name, days in (("short-1", 7), ("long-1", 365)):
        manifest = artifacts + f"runs/team/{name}/data/manifest.json"
        stores(manifest).put(manifest, json.dumps({"retentionDays": days}).encode())
        age(artifacts + f"runs/team/{name}/", 30)
    old_object(artifacts + "runs/team/early-1/x", 80)
    assert [r.version for r in expired_runs(artifacts, stores, now=NOW)] == ["short-1"]
    assert {r.version for r in expired_runs(artifacts, stores, now=NOW, retention_days=20)} == {
        "early-1",
        "long-1",
        "short-1",
    }


def test_ledger_and_caches_stay(artifacts: str) -> None:
    for name in ("ledger/x.json", "cache/judge/y.json", "runs/stray.txt"):
        old_object(artifacts + name, 1000)
    assert collect_expired(artifacts, stores, now=NOW, retention_days=90) == ()
    assert len(list_folder(stores(artifacts), artifacts)) == 3


def test_own_run_stays_whatever_its_age(artifacts: str) -> None:
    old_object(artifacts + "runs/team/a-1/x", 1000)
    keep = (artifacts + "runs/team/a-1/",)
    assert expired_runs(artifacts, stores, now=NOW, retention_days=90, keep=keep) == ()


def test_oldest_go_first_and_not_too_many_at_once(artifacts: str) -> None:
    for n in range(5):
        old_object(artifacts + f"runs/team/r{n}-1/x", 100 + n)
    deleted = collect_expired(artifacts, stores, now=NOW, retention_days=90, at_most=2)
    assert [uri.split("/")[-2] for uri in deleted] == ["r4-1", "r3-1"]


def test_run_behind_an_alias_or_behind_its_last_move_stays(tmp_path: Path, artifacts: str) -> None:
    base = full_weights(tmp_path / "base")
    root = (tmp_path / "storage").as_uri()
    works = []
    for name in ("one", "two", "three"):
        full_weights(tmp_path / name, content=name.encode())
        work = Publishable(root, tmp_path / name, base, name=name)
        result = run(work.context(tmp_path / "scratch"))
        assert not result.champion_moved
        store_result(work.request, result, stores(work.folder))
        works.append(work)
    for work in works:
        age(work.folder, 1000)
    assert expired(artifacts) == ["one-12345678"]
    publish = works[0].request.spec.publish.uri
    found = expired_runs(artifacts, stores, now=NOW, retention_days=90)
    set_alias(publish, "previous", "one-12345678", stores(publish), now=NOW)
    assert expired(artifacts) == []
    assert delete_expired(found, stores) == (), "an alias was moved to it after it was found"


def test_run_that_is_written_to_after_it_was_found_stays(artifacts: str) -> None:
    for name in ("a-1", "b-1"):
        old_object(artifacts + f"runs/team/{name}/x", 100)
    found = expired_runs(artifacts, stores, now=NOW, retention_days=90)
    old_object(artifacts + "runs/team/a-1/checkpoint", 0)
    assert [run.version for run in delete_expired(found, stores)] == ["b-1"]
    assert [run.version for run in run_folders(artifacts, stores)] == ["a-1"]
