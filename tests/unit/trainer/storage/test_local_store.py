"""Objects as files: the store's contract, and what only file systems do."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.local_files import file_error
from alignment_trainer.storage.store import Absent, ConditionFailed, Matches
from support.store_contract import StoreContract


@pytest.fixture
def store() -> LocalStore:
    return LocalStore()


@pytest.fixture
def base(tmp_path: Path) -> str:
    return (tmp_path / "objects").as_uri() + "/"


class TestFiles(StoreContract):
    pass


class TestVolumes(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        (tmp_path / "mounts" / "claim").mkdir(parents=True)
        return LocalStore(volumes=tmp_path / "mounts")

    @pytest.fixture
    def base(self) -> str:
        return "pvc://claim/objects/"

    def test_claim_that_is_not_mounted_is_named(self, store: LocalStore) -> None:
        with pytest.raises(RequestError, match=r"Claim other of pvc://other/x is not mounted"):
            store.put("pvc://other/x", b"")


@pytest.mark.parametrize("name", ["50 % [x] ü.json", os.fsdecode(b"caf\xe9.json")], ids=["UTF-8", "Latin-1"])
def test_names_with_spaces_and_signs_survive(store: LocalStore, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a folder" / name
    store.put(path.as_uri(), b"x")
    assert path.read_bytes() == b"x"
    listed = list(store.list(tmp_path.as_uri() + "/"))
    assert [store.get(info.uri)[0] for info in listed] == [b"x"]


@pytest.mark.parametrize(
    "uri",
    ["file://data/x", "file://./x", "file:///a/../b", "file:///a/%2e%2e/b", "plain/path", "file:///a%00b"],
)
def test_uri_that_is_no_full_path_is_refused(store: LocalStore, uri: str) -> None:
    with pytest.raises(RequestError) as caught:
        store.stat(uri)
    assert caught.value.reason == "UriInvalid"


def test_links_are_followed_to_files_and_folders_but_never_in_circles(
    store: LocalStore, tmp_path: Path, base: str
) -> None:
    objects, elsewhere = tmp_path / "objects", tmp_path / "elsewhere"
    (objects / "own").mkdir(parents=True)
    (elsewhere / "deep").mkdir(parents=True)
    for path in (objects / "own" / "1.jsonl", elsewhere / "deep" / "2.jsonl"):
        path.write_text("{}", encoding="utf-8")
    (objects / "linked").symlink_to(elsewhere)
    (objects / "3.jsonl").symlink_to(elsewhere / "deep" / "2.jsonl")
    (objects / "own" / "up").symlink_to(objects)
    (elsewhere / "deep" / "back").symlink_to(elsewhere)
    (objects / "nowhere").symlink_to(tmp_path / "gone")
    (objects / "itself").symlink_to(objects / "itself")
    found = [info.uri.removeprefix(base) for info in store.list(base + "**/*.jsonl")]
    assert found == ["3.jsonl", "linked/deep/2.jsonl", "own/1.jsonl"]
    assert all(store.stat(base + name) is not None for name in found)


@pytest.mark.timeout(30)
def test_pipes_sockets_and_devices_are_no_objects_and_nobody_waits_for_them(
    store: LocalStore, tmp_path: Path, base: str
) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        assert [info.uri for info in store.list(base)] == [base + "file"]
        for name in ("pipe", "device", "socket"):
            assert store.stat(base + name) is None
            with pytest.raises(RequestError, match=f"{name} is a pipe, a socket or a device") as caught:
                store.get(base + name)
            assert caught.value.reason == "UriInvalid"


def test_half_written_file_is_never_listed_nor_left(store: LocalStore, tmp_path: Path, base: str) -> None:
    class Broken:
        def read(self, _: int) -> bytes:
            assert list(store.list(base)) == []
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="space"):
        store._write(base + "x", tmp_path / "objects" / "x", Broken())  # type: ignore[arg-type]
    assert list((tmp_path / "objects").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "family", "reason"),
    [
        (errno.ENOSPC, TemporaryError, "DiskFull"),
        (errno.EDQUOT, TemporaryError, "DiskFull"),
        (errno.EROFS, RequestError, "ReadOnly"),
        (errno.EACCES, RequestError, "AccessDenied"),
        (errno.EIO, TemporaryError, "StorageUnavailable"),
        (errno.EISDIR, RequestError, "KeyIsFolder"),
        (errno.ENXIO, RequestError, "UriInvalid"),
        (errno.ENAMETOOLONG, RequestError, "UriInvalid"),
    ],
)
def test_each_refusal_of_the_file_system_is_one_sentence(number: int, family: type, reason: str) -> None:
    error = file_error(OSError(number, os.strerror(number), "/data/x"), "file:///data/x")
    assert isinstance(error, family)
    assert error.reason == reason
    assert "file:///data/x" in error.message


def test_full_disk_is_temporary_and_leaves_the_old_object(store: LocalStore) -> None:
    # /dev/full refuses every write with ENOSPC, as a full disk does.
    with (
        pytest.raises(OSError, match="No space left") as caught,
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert file_error(caught.value, "file:///x").reason == "DiskFull"


def test_deleting_the_last_object_removes_the_empty_folders(
    store: LocalStore, tmp_path: Path, base: str
) -> None:
    store.put(base + "runs/a/aliases/one", b"x", condition=Absent())
    store.put(base + "keep", b"x")
    store.delete(base + "runs/a/aliases/one")
    assert [p.name for p in (tmp_path / "objects").iterdir()] == ["keep"]


def _append(uri: str, count: int) -> None:
    store = LocalStore()
    for _ in range(count):
        while True:
            data, info = store.get(uri)
            numbers = json.loads(data)
            try:
                store.put(uri, json.dumps([*numbers, len(numbers)]).encode(), condition=Matches(info.etag))
            except ConditionFailed:
                continue
            break


@pytest.mark.parametrize("condition", [None, Absent()], ids=["any", "if absent"])
def test_folders_that_others_empty_and_remove_meanwhile_are_made_again(
    condition: Absent | None, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that publish at once probe the store below the same folder, and each takes away what it left empty."""
    real, target = os.mkdir, tmp_path / "publish" / "probes" / "mine"
    left = [target.parent, target.parent]

    def mkdir(path: str, *arguments: int) -> None:
        if left and Path(path) == left[0] and target.parent.parent.exists():
            left.pop()
            target.parent.parent.rmdir()  # the moment between its making and that of the folder in it
        real(path, *arguments)

    monkeypatch.setattr(os, "mkdir", mkdir)
    store.put(target.as_uri(), b"x", condition=condition)
    assert not left
    assert target.read_bytes() == b"x"


def test_no_update_is_lost_between_processes(store: LocalStore, base: str) -> None:
    store.put(base + "ledger", b"[]")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(base + "ledger", 25)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert json.loads(store.get(base + "ledger")[0]) == list(range(75))
