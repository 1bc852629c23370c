"""Folders with one digest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.storage.folders import (
    SUMS,
    delete_folder,
    fetch_folder,
    list_folder,
    read_sums,
    sums_digest,
    upload_folder,
)
from alignment_trainer.storage.local import LocalStore
from support.unreliable import KilledError, Killing

store = LocalStore()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> str:
    return (tmp_path / "target").as_uri() + "/"


def test_uploaded_folder_is_verified_by_sha256sum_alone(source: Path, target: str, tmp_path: Path) -> None:
    upload_folder(source, target, store)
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path / "target", capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_digest_is_the_sha256_of_the_sums(source: Path, target: str, tmp_path: Path) -> None:
    ref = upload_folder(source, target, store)
    found = subprocess.run(
        ["sha256sum", SUMS], cwd=tmp_path / "target", capture_output=True, text=True, check=True
    )
    assert ref.digest == "sha256:" + found.stdout.split()[0]


def test_upload_again_writes_nothing(source: Path, target: str) -> None:
    first = upload_folder(source, target, store)
    with Killing(store, after=0).as_store() as untouchable:
        assert upload_folder(source, target, untouchable) == first


def test_leftovers_of_an_earlier_attempt_go(source: Path, target: str) -> None:
    store.put(target + "model-00001-of-00007.safetensors", b"old")
    upload_folder(source, target, store)
    assert set(list_folder(store, target)) == {"a.txt", "sub/b.txt", SUMS}


@pytest.mark.parametrize("after", range(6))
def test_killed_anywhere_the_next_upload_ends_the_same(source: Path, target: str, after: int) -> None:
    (source / "a.txt").write_text("old")
    upload_folder(source, target, store)
    (source / "a.txt").write_text("a")
    (source / "c.txt").write_text("c")
    (source / "sub" / "b.txt").unlink()
    with Killing(store, after=after).as_store() as killing:
        try:
            upload_folder(source, target, killing)
        except KilledError:
            sums = read_sums(store, target)
            # A folder that looks complete is complete.
            assert sums is None or set(sums) | {SUMS} == set(list_folder(store, target))
    ref = upload_folder(source, target, store)
    assert set(list_folder(store, target)) == {"a.txt", "c.txt", SUMS}
    assert ref.digest == sums_digest(read_sums(store, target) or {})


def test_fetch_verifies_every_file(source: Path, target: str, tmp_path: Path) -> None:
    ref = upload_folder(source, target, store)
    assert (fetch_folder(ref, store, tmp_path / "scratch") / "sub" / "b.txt").read_text() == "b"
    (tmp_path / "target" / "sub" / "b.txt").write_text("B")
    with pytest.raises(TemporaryError, match=r"target/sub/b.txt has sha256") as caught:
        fetch_folder(ref, store, tmp_path / "scratch")
    assert caught.value.reason == "ChecksumDiffers"


def test_fetch_of_a_folder_that_was_written_anew_is_refused(
    source: Path, target: str, tmp_path: Path
) -> None:
    ref = upload_folder(source, target, store)
    (source / "a.txt").write_text("other")
    upload_folder(source, target, store)
    with pytest.raises(TemporaryError) as caught:
        fetch_folder(ref, store, tmp_path)
    assert caught.value.reason == "ArtifactChanged"


def test_fetch_of_an_incomplete_folder_is_refused(source: Path, target: str, tmp_path: Path) -> None:
    ref = upload_folder(source, target, store)
    store.delete(target + SUMS)
    with pytest.raises(RequestError) as caught:
        fetch_folder(ref, store, tmp_path)
    assert caught.value.reason == "ArtifactMissing"


@pytest.mark.parametrize("line", ["zz  a.txt", "0" * 64 + "  ../../etc/passwd", "0" * 64 + "  /etc/passwd"])
def test_sums_that_lead_astray_are_refused(target: str, line: str) -> None:
    store.put(target + SUMS, line.encode())
    with pytest.raises(RequestError, match=f"{SUMS}:1"):
        read_sums(store, target)


def test_deleted_folder_is_gone(source: Path, target: str) -> None:
    upload_folder(source, target, store)
    assert delete_folder(store, target) == 3
    assert list_folder(store, target) == {}
