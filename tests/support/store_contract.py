"""What every object store must do: claims run against files by the unit tests, against a real S3 server by the integration tests.

A test module subclasses :class:`StoreContract` and gives a fixture ``store`` and a fixture ``base`` (URI of an
empty folder, ending with ``/``).
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.store import Absent, ConditionFailed, Matches, ObjectStore


class StoreContract:
    """Claims about one store."""

    def test_what_was_put_is_got(self, store: ObjectStore, base: str) -> None:
        written = store.put(base + "a/b.json", b"content")
        data, info = store.get(base + "a/b.json")
        assert data == b"content"
        assert (info.size, info.etag, info.uri) == (7, written.etag, base + "a/b.json")

    def test_empty_object_is_an_object(self, store: ObjectStore, base: str) -> None:
        store.put(base + "empty", b"")
        assert store.get(base + "empty")[0] == b""
        with store.open(base + "empty") as stream:
            assert stream.read() == b""

    def test_absent_object_is_none_to_stat_and_an_error_to_everything_else(
        self, store: ObjectStore, base: str, tmp_path: Path
    ) -> None:
        uri = base + "nothing"
        assert store.stat(uri) is None
        assert list(store.list(uri)) == []

        def read() -> None:
            with store.open(uri) as stream:
                stream.read()

        calls: list[Callable[[], object]] = [
            lambda: store.get(uri),
            lambda: store.download(uri, tmp_path / "x"),
            lambda: store.copy(uri, base + "y"),
            read,
        ]
        for call in calls:
            with pytest.raises(RequestError, match="nothing does not exist") as caught:
                call()
            assert caught.value.reason == "ObjectMissing"
        assert not (tmp_path / "x").exists()

    def test_folder_is_not_an_object(self, store: ObjectStore, base: str) -> None:
        store.put(base + "folder/file", b"x")
        assert store.stat(base + "folder") is None
        with pytest.raises(RequestError):
            store.put(base + "folder/", b"x")

    def test_etag_changes_with_the_content(self, store: ObjectStore, base: str) -> None:
        etags = {store.put(base + "pointer", str(n).encode()).etag for n in range(20)}
        assert len(etags) == 20

    @pytest.mark.parametrize(
        "size", [0, 1, 1023, 20 * 1024 * 1024 + 17], ids=["none", "one", "small", "multipart"]
    )
    def test_upload_and_download_keep_every_byte(
        self, store: ObjectStore, base: str, tmp_path: Path, size: int
    ) -> None:
        source, target = tmp_path / "source", tmp_path / "new" / "target"
        source.write_bytes(random.Random(size).randbytes(size))
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        info = store.upload(source, base + "up/file.bin")
        assert info.size == size
        assert store.stat(base + "up/file.bin") == info
        store.download(base + "up/file.bin", target, sha256=digest)
        assert target.read_bytes() == source.read_bytes()
        assert [p.name for p in target.parent.iterdir()] == ["target"]

    def test_ranges_are_exact(self, store: ObjectStore, base: str, tmp_path: Path) -> None:
        data = random.Random(5).randbytes(17 * 1024 * 1024)
        (tmp_path / "big").write_bytes(data)
        store.upload(tmp_path / "big", base + "big")
        edge = 16 * 1024 * 1024  # between two parts
        for offset, length in [
            (0, 10),
            (edge - 5, 10),
            (len(data) - 3, None),
            (len(data) - 3, 100),
            (7, 0),
            (len(data), None),
        ]:
            with store.open(base + "big", offset=offset, length=length) as stream:
                wanted = data[offset:] if length is None else data[offset : offset + length]
                assert stream.read() == wanted, (offset, length)

    def test_download_with_another_checksum_leaves_nothing(
        self, store: ObjectStore, base: str, tmp_path: Path
    ) -> None:
        store.put(base + "weights", b"as stored")
        with pytest.raises(
            TemporaryError, match=r"weights has sha256 [0-9a-f]{64}, expected 0{64}"
        ) as caught:
            store.download(base + "weights", tmp_path / "new" / "weights", sha256="0" * 64)
        assert caught.value.reason == "ChecksumDiffers"
        assert list((tmp_path / "new").iterdir()) == []

    def test_object_larger_than_expected_is_refused_unread(self, store: ObjectStore, base: str) -> None:
        store.put(base + "large", b"x" * 11)
        with pytest.raises(RequestError, match="11 bytes, at most 10"):
            store.get(base + "large", maximum_bytes=10)

    def test_listing_follows_globs(self, store: ObjectStore, base: str) -> None:
        names = ["a.jsonl", "b.jsonl.gz", "x/a.jsonl", "x/y/c.jsonl", "x/y/d.parquet", "z1/q", "z2/q", "zz/q"]
        for name in names:
            store.put(base + name, name.encode())

        def found(pattern: str) -> list[str]:
            infos = list(store.list(base + pattern))
            assert all(info.size == len(info.uri) - len(base) for info in infos)
            return [info.uri[len(base) :] for info in infos]

        assert found("") == names
        assert found("*.jsonl") == ["a.jsonl"]
        assert found("**/*.jsonl") == ["a.jsonl", "x/a.jsonl", "x/y/c.jsonl"]
        assert found("x/**") == ["x/a.jsonl", "x/y/c.jsonl", "x/y/d.parquet"]
        assert found("x/") == found("x/**")
        assert found("z?/q") == ["z1/q", "z2/q", "zz/q"]
        assert found("z[0-9]/q") == ["z1/q", "z2/q"]
        assert found("z[!0-9]/q") == ["zz/q"]
        assert found("a.jsonl") == ["a.jsonl"]
        assert found("nothing/**") == []

    def test_listed_etag_is_the_etag(self, store: ObjectStore, base: str) -> None:
        store.put(base + "one", b"1")
        assert [info.etag for info in store.list(base)] == [store.get(base + "one")[1].etag]

    def test_create_only_put_happens_once(self, store: ObjectStore, base: str) -> None:
        store.put(base + "lock", b"mine", condition=Absent())
        with pytest.raises(ConditionFailed, match="changed by someone else"):
            store.put(base + "lock", b"theirs", condition=Absent())
        assert store.get(base + "lock")[0] == b"mine"

    def test_replacing_put_needs_the_version_it_read(self, store: ObjectStore, base: str) -> None:
        first = store.put(base + "alias", b"1")
        second = store.put(base + "alias", b"2", condition=Matches(first.etag))
        for stale in (Matches(first.etag), Matches("no-such-etag"), Absent()):
            with pytest.raises(ConditionFailed):
                store.put(base + "alias", b"3", condition=stale)
        assert store.get(base + "alias") == (b"2", store.stat(base + "alias"))
        store.put(base + "alias", b"3", condition=Matches(second.etag))
        assert store.get(base + "alias")[0] == b"3"

    def test_replacing_what_is_not_there_conflicts(self, store: ObjectStore, base: str) -> None:
        etag = store.put(base + "gone", b"1").etag
        store.delete(base + "gone")
        with pytest.raises(ConditionFailed):
            store.put(base + "gone", b"2", condition=Matches(etag))
        assert store.stat(base + "gone") is None

    def test_one_of_many_creators_wins(self, store: ObjectStore, base: str) -> None:
        won = race(8, lambda n: store.put(base + "race", str(n).encode(), condition=Absent()))
        assert len(won) == 1
        assert store.get(base + "race")[0] == str(won[0]).encode()

    def test_no_update_is_lost_between_replacers(self, store: ObjectStore, base: str) -> None:
        uri = base + "counter"
        store.put(uri, b"")

        def append(n: int) -> None:
            while True:
                data, info = store.get(uri)
                try:
                    store.put(uri, data + bytes([n]), condition=Matches(info.etag))
                except ConditionFailed:
                    continue
                return

        race(6, append)
        assert sorted(store.get(uri)[0]) == list(range(6))

    def test_copy_keeps_content_and_source(self, store: ObjectStore, base: str) -> None:
        store.put(base + "from", b"data")
        copied = store.copy(base + "from", base + "to/there")
        assert copied.size == 4
        assert store.get(base + "to/there")[0] == store.get(base + "from")[0] == b"data"

    def test_deleting_twice_is_success(self, store: ObjectStore, base: str) -> None:
        store.put(base + "a/b/c", b"x")
        store.delete(base + "a/b/c")
        store.delete(base + "a/b/c")
        assert list(store.list(base)) == []

    def test_object_below_an_object_is_refused_or_kept_apart(self, store: ObjectStore, base: str) -> None:
        store.put(base + "k/a", b"file")
        with pytest.raises(RequestError) as caught:
            store.put(base + "k/a/x", b"below")
        assert caught.value.reason == "KeyIsFolder"
        assert store.get(base + "k/a")[0] == b"file"

    def test_store_that_honours_conditions_passes_the_probe_and_keeps_nothing_of_it(
        self, store: ObjectStore, base: str
    ) -> None:
        require_conditional_puts(store, base)
        assert list(store.list(base)) == []


def race(count: int, work: Callable[[int], object]) -> list[int]:
    """Run ``work(0) … work(count - 1)`` at once; returns who got through without ConditionFailed."""
    won, failed = [], []
    barrier = threading.Barrier(count)

    def body(n: int) -> None:
        barrier.wait()
        try:
            work(n)
            won.append(n)
        except ConditionFailed:
            pass
        except BaseException as error:  # noqa: BLE001  raised again by the main thread
            failed.append(error)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return won
