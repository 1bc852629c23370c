"""What networks, stores and settings do to requests, and what a person is told.

A real S3 server behind a proxy that breaks things. boto3's pauses between retries are skipped.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignment_api.spec import StorageSpec
from alignment_trainer.errors import RequestError, StageError, TemporaryError
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.s3 import S3Store
from alignment_trainer.storage.store import Absent, ConditionFailed, Matches
from support.faultproxy import Fault, Proxy, proxied
from support.s3server import ACCESS_KEY, SECRET_KEY, S3Server
from support.serving import free_port


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with proxied(s3.endpoint) as running:
        yield running


@pytest.fixture
def store(proxy: Proxy) -> S3Store:
    return S3Store(StorageSpec(endpoint=proxy.endpoint, region="us-east-1"))


@pytest.fixture
def direct(s3: S3Server) -> S3Store:
    """The same server, past the proxy: someone else."""
    return S3Store(s3.spec)


def gets(proxy: Proxy) -> list[str | None]:
    return [headers.get("Range") for method, _, headers in proxy.seen if method == "GET"]


class TestReading:
    def test_body_that_breaks_off_is_asked_for_from_there(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        data = secrets.token_bytes(100_000)
        store.put(bucket + "x", data)
        proxy.faults = [Fault("GET", keep=30_000), Fault("GET", keep=1)]
        assert store.get(bucket + "x")[0] == data
        assert gets(proxy) == [None, "bytes=30000-", "bytes=30001-"]

    def test_range_that_breaks_off_stays_within_the_range(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        store.put(bucket + "x", bytes(range(200)))
        proxy.faults = [Fault("GET", keep=5)]
        with store.open(bucket + "x", offset=10, length=20) as stream:
            assert stream.read() == bytes(range(10, 30))
        assert gets(proxy) == ["bytes=10-29", "bytes=15-29"]

    def test_body_that_never_comes_is_one_clear_error(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        store.put(bucket + "x", b"0123456789")
        proxy.faults = [Fault("GET", keep=0, times=0)]
        with pytest.raises(TemporaryError, match=r"x: the body ended after 0 of 10 bytes") as caught:
            store.get(bucket + "x")
        assert caught.value.reason == "DownloadTruncated"

    def test_object_replaced_while_it_is_read_is_never_mixed(
        self, store: S3Store, direct: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        store.put(bucket + "x", b"a" * 1000)
        proxy.faults = [
            Fault("GET", keep=500),
            Fault("GET", before=lambda: void(direct.put(bucket + "x", b"b" * 1000))),
        ]
        with pytest.raises(TemporaryError, match="was replaced while it was read") as caught:
            store.get(bucket + "x")
        assert caught.value.reason == "ObjectChanged"

    def test_download_survives_broken_parts(
        self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path
    ) -> None:
        (tmp_path / "source").write_bytes(secrets.token_bytes(40 * 1024 * 1024))
        store.upload(tmp_path / "source", bucket + "x")
        proxy.faults = [Fault("GET", keep=1_000_000) for _ in range(3)]
        store.download(bucket + "x", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()

    def test_download_that_always_breaks_leaves_nothing(
        self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path
    ) -> None:
        store.put(bucket + "x", b"0123456789")
        proxy.faults = [Fault("GET", keep=5, times=0)]
        with pytest.raises(TemporaryError, match=f"{bucket}x"):
            store.download(bucket + "x", tmp_path / "new" / "target")
        assert list((tmp_path / "new").iterdir()) == []

    def test_bytes_changed_behind_the_checksum_are_found(
        self, store: S3Store, s3: S3Server, bucket: str, tmp_path: Path
    ) -> None:
        store.put(bucket + "x", b"as written")
        name = bucket.removeprefix("s3://")
        (s3.folder / name / "x").write_bytes(b"as altered")
        for read in (lambda: store.get(bucket + "x"), lambda: store.download(bucket + "x", tmp_path / "t")):
            with pytest.raises(TemporaryError) as caught:
                read()
            assert caught.value.reason == "ChecksumDiffers"


class TestWriting:
    def test_busy_store_is_asked_again(self, store: S3Store, proxy: Proxy, bucket: str) -> None:
        proxy.faults = [
            Fault("PUT", status=503, code="SlowDown"),
            Fault("PUT", status=500, code="InternalError"),
        ]
        store.put(bucket + "x", b"data")
        assert store.get(bucket + "x")[0] == b"data"

    def test_store_that_stays_busy_is_temporary(self, store: S3Store, proxy: Proxy, bucket: str) -> None:
        proxy.faults = [Fault("PUT", status=503, code="SlowDown", times=0)]
        with pytest.raises(TemporaryError, match=rf"{bucket}x: .* answered 503 \(SlowDown\)") as caught:
            store.put(bucket + "x", b"data")
        assert caught.value.reason == "StorageUnavailable"

    def test_upload_survives_a_lost_part(
        self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path
    ) -> None:
        (tmp_path / "source").write_bytes(secrets.token_bytes(20 * 1024 * 1024))
        proxy.faults = [
            Fault("PUT", "partNumber=1", lost=True),
            Fault("PUT", "partNumber=2", status=500, code="InternalError"),
        ]
        store.upload(tmp_path / "source", bucket + "x")
        assert store.get(bucket + "x")[0] == (tmp_path / "source").read_bytes()

    def test_upload_that_fails_shows_no_object(
        self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path
    ) -> None:
        (tmp_path / "source").write_bytes(bytes(20 * 1024 * 1024))
        proxy.faults = [Fault("PUT", "partNumber=2", status=507, code="InsufficientStorage", times=0)]
        with pytest.raises(TemporaryError, match="free space or raise the quota") as caught:
            store.upload(tmp_path / "source", bucket + "x")
        assert caught.value.reason == "StorageFull"
        assert store.stat(bucket + "x") is None


class TestEncryption:
    @pytest.mark.parametrize(
        ("wanted", "headers"),
        [
            ({"type": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
            (
                {"type": "KMS", "kmsKeyId": "key-1"},
                {
                    "x-amz-server-side-encryption": "aws:kms",
                    "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
                },
            ),
        ],
        ids=["AES256", "KMS"],
    )
    def test_every_write_asks_for_it(
        self, proxy: Proxy, bucket: str, tmp_path: Path, wanted: dict[str, str], headers: dict[str, str]
    ) -> None:
        spec = StorageSpec.model_validate({"endpoint": proxy.endpoint, "serverSideEncryption": wanted})
        store = S3Store(spec)
        (tmp_path / "big").write_bytes(bytes(17 * 1024 * 1024))
        proxy.faults = [Fault("PUT", "small", status=200, body=b"", headers={"ETag": '"e"'}, times=0)]
        store.put(bucket + "small", b"x")
        store.put(bucket + "small", b"x", condition=Absent())
        with contextlib.suppress(StageError):  # whether this server encrypts is not the question
            store.upload(tmp_path / "big", bucket + "big")
        direct = S3Store(StorageSpec(endpoint=proxy.endpoint))
        direct.put(bucket + "plain", b"x")
        plain = proxy.seen.pop()
        with contextlib.suppress(StageError):
            store.copy(bucket + "plain", bucket + "copied")
        assert plain[0] == "PUT"
        writes = [
            found
            for method, path, found in proxy.seen
            if (method == "PUT" and "partNumber" not in path) or "uploads" in path.split("?")[-1]
        ]
        assert len(writes) == 4
        for found in writes:
            lower = {name.lower(): value for name, value in found.items()}
            assert headers.items() <= lower.items()


class TestConditions:
    def test_write_that_was_done_after_we_gave_up_waiting_is_our_own(
        self, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("alignment_trainer.storage.s3_client.READ_SECONDS", 0.3)
        impatient = S3Store(StorageSpec(endpoint=proxy.endpoint))
        proxy.faults = [Fault("PUT", before=lambda: void(threading.Event().wait(0.5)))]
        impatient.put(bucket + "lock", b"mine", condition=Absent())
        assert impatient.get(bucket + "lock")[0] == b"mine"

    def test_store_that_never_answers_in_time_is_temporary(
        self, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("alignment_trainer.storage.s3_client.READ_SECONDS", 0.1)
        impatient = S3Store(StorageSpec(endpoint=proxy.endpoint))
        proxy.faults = [Fault("*", times=0, before=lambda: void(threading.Event().wait(0.3)))]
        with pytest.raises(TemporaryError) as caught:
            impatient.get(bucket + "x")
        assert caught.value.reason == "StorageUnavailable"

    def test_own_write_whose_answer_was_lost_is_not_a_conflict(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        proxy.faults = [Fault("PUT", lost=True)]
        created = store.put(bucket + "lock", b"mine", condition=Absent())
        proxy.faults = [Fault("PUT", lost=True)]
        replaced = store.put(bucket + "lock", b"mine again", condition=Matches(created.etag))
        assert store.get(bucket + "lock") == (b"mine again", store.stat(bucket + "lock"))
        assert replaced.etag != created.etag

    def test_own_write_is_found_even_when_no_answer_ever_comes(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        proxy.faults = [Fault("PUT", lost=True, times=0)]
        assert store.put(bucket + "lock", b"mine", condition=Absent()).size == 4

    def test_the_same_bytes_from_someone_else_are_still_someone_elses(
        self, store: S3Store, direct: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        rival = Fault(
            "PUT",
            status=500,
            code="InternalError",
            before=lambda: void(direct.put(bucket + "lock", b"same bytes")),
        )
        proxy.faults = [rival]
        with pytest.raises(ConditionFailed):
            store.put(bucket + "lock", b"same bytes", condition=Absent())

    def test_conflict_inside_the_store_is_tried_again(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        proxy.faults = [Fault("PUT", status=409, code="ConditionalRequestConflict", times=2)]
        store.put(bucket + "lock", b"mine", condition=Absent())
        assert store.get(bucket + "lock")[0] == b"mine"

    def test_conflict_that_never_ends_is_a_conflict(
        self, store: S3Store, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("alignment_trainer.storage.s3.time", SimpleNamespace(sleep=lambda _: None))
        proxy.faults = [Fault("PUT", status=409, code="ConditionalRequestConflict", times=0)]
        with pytest.raises(ConditionFailed):
            store.put(bucket + "lock", b"mine", condition=Absent())

    def test_store_that_ignores_conditions_is_found_out(
        self, store: S3Store, proxy: Proxy, bucket: str
    ) -> None:
        proxy.faults = [Fault("PUT", "probes/", status=200, body=b"", headers={"ETag": '"e"'}, times=0)]
        with pytest.raises(RequestError, match="does not honour conditional puts") as caught:
            require_conditional_puts(store, bucket)
        assert caught.value.reason == "ConditionalPutsUnsupported"


def void(_: object) -> None:
    """For lambdas that are called for what they do."""


Calls = list[Callable[[], object]]


def calls(store: S3Store, bucket: str, tmp_path: Path) -> Calls:
    """Everything a store can be asked."""
    (tmp_path / "file").write_bytes(b"x")

    def read() -> None:
        with store.open(bucket + "x") as stream:
            stream.read()

    return [
        lambda: store.stat(bucket + "x"),
        lambda: store.get(bucket + "x"),
        read,
        lambda: list(store.list(bucket)),
        lambda: store.put(bucket + "x", b""),
        lambda: store.put(bucket + "x", b"", condition=Absent()),
        lambda: store.upload(tmp_path / "file", bucket + "x"),
        lambda: store.download(bucket + "x", tmp_path / "target"),
        lambda: store.copy(bucket + "x", bucket + "y"),
        lambda: store.delete(bucket + "x"),
    ]


def all_fail(calls: Calls, family: type[StageError], reason: str, *words: str) -> None:
    for number, call in enumerate(calls):
        with pytest.raises(family) as caught:
            call()
        message = caught.value.message
        assert caught.value.reason == reason, (number, message)
        for word in words:
            assert word in message, (number, message)
        assert SECRET_KEY not in message
        assert ACCESS_KEY not in message
        assert "words of the server" not in message
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__, f"call {number} would show botocore's traceback"


class TestSettings:
    def test_missing_bucket(self, s3: S3Server, tmp_path: Path) -> None:
        missing = "s3://no-such-bucket-anywhere/"
        found = calls(S3Store(s3.spec), missing, tmp_path)
        all_fail(found, RequestError, "BucketMissing", missing, s3.endpoint, "create it, or correct the URI")

    def test_wrong_secret(
        self, s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
        writing = calls(S3Store(s3.spec), bucket, tmp_path)
        # HEAD answers have no body, so no code: they can only say that access was denied.
        asked_by_head = {0, 7, 8}
        all_fail(
            [c for n, c in enumerate(writing) if n not in asked_by_head],
            RequestError,
            "CredentialsRejected",
            bucket,
            "credentialsSecretRef",
        )
        all_fail([writing[n] for n in asked_by_head], RequestError, "AccessDenied", bucket)

    def test_no_credentials(
        self, s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        all_fail(
            calls(S3Store(s3.spec), bucket, tmp_path),
            RequestError,
            "CredentialsMissing",
            bucket,
            "credentialsSecretRef",
        )

    def test_denied(self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path) -> None:
        proxy.faults = [Fault("*", status=403, code="AccessDenied", times=0)]
        all_fail(
            calls(store, bucket, tmp_path), RequestError, "AccessDenied", bucket, "give these credentials"
        )

    def test_endpoint_where_nobody_listens(self, bucket: str, tmp_path: Path) -> None:
        endpoint = f"http://127.0.0.1:{free_port()}"
        store = S3Store(StorageSpec(endpoint=endpoint))
        all_fail(
            calls(store, bucket, tmp_path),
            TemporaryError,
            "StorageUnavailable",
            bucket,
            endpoint,
            "spec.storage.endpoint",
        )

    def test_endpoint_that_is_a_web_site(
        self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path
    ) -> None:
        proxy.faults = [Fault("*", status=405, body=b"<html>Hello</html>", times=0)]
        all_fail(calls(store, bucket, tmp_path), RequestError, "WrongEndpoint", bucket, proxy.endpoint)

    def test_password_in_the_endpoint_is_not_repeated(self, bucket: str, tmp_path: Path) -> None:
        port = free_port()
        store = S3Store(StorageSpec(endpoint=f"http://user:{SECRET_KEY}@127.0.0.1:{port}"))
        all_fail(
            calls(store, bucket, tmp_path), TemporaryError, "StorageUnavailable", f"http://127.0.0.1:{port}"
        )

    def test_bucket_name_that_no_bucket_has(self, s3: S3Server, tmp_path: Path) -> None:
        all_fail(
            calls(S3Store(s3.spec), "s3://No_Such_Name!/", tmp_path),
            RequestError,
            "UriInvalid",
            "s3://No_Such_Name!/",
        )

    def test_other_region(self, store: S3Store, proxy: Proxy, bucket: str, tmp_path: Path) -> None:
        proxy.faults = [Fault("PUT", status=400, code="AuthorizationHeaderMalformed", times=0)]
        with pytest.raises(RequestError, match=r"spec\.storage\.region") as caught:
            store.put(bucket + "x", b"")
        assert caught.value.reason == "WrongRegion"
