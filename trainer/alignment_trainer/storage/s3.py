"""Objects in S3 and compatible stores, through boto3.

Retries are boto3's standard mode. What it cannot know is added here: a body that breaks off is asked for again
from where it broke; a conditional put that answers "conflict" after a retry, or whose answer was lost, is
read back, because it may be our own write. Conditions on server-side copies are never used: real servers
ignore them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from alignment_api.spec import StorageSpec
from alignment_trainer.errors import RequestError, StageError, TemporaryError
from alignment_trainer.storage import uris
from alignment_trainer.storage.local_files import file_error, replacing
from alignment_trainer.storage.refusals import checksum_differs, too_large
from alignment_trainer.storage.s3_body import ResumingBody
from alignment_trainer.storage.s3_client import build_client, shown_endpoint, transfer_config
from alignment_trainer.storage.s3_errors import BOTO_ERRORS, error_code, is_missing, status_code, translate
from alignment_trainer.storage.store import Absent, Condition, ConditionFailed, ObjectInfo

__all__ = ["S3Store"]

_COPY_BYTES: Final = 4 * 1024 * 1024 * 1024
"""Below S3's limit of 5 GiB for one CopyObject; above, the copy goes by parts."""
_CONFLICT_ATTEMPTS: Final = 6
_SHA256: Final = "alignment-sha256"
_WRITE_ID: Final = "alignment-write-id"


class S3Store:
    """Objects of ``s3://bucket/key`` URIs at one endpoint.

    spec: endpoint, region, encryption; credentials come from boto3's own chain. Thread-safe.
    """

    def __init__(self, spec: StorageSpec) -> None:
        self._spec = spec
        self._client = build_client(spec)
        self._buckets_seen: set[str] = set()
        self._lock = threading.Lock()

    # -- reading ----------------------------------------------------------------------------------------

    def list(self, pattern: str) -> Iterator[ObjectInfo]:
        """See :class:`ObjectStore`."""
        if not uris.is_glob(pattern) and not pattern.endswith("/"):
            found = self.stat(pattern)
            return iter((found,) if found else ())
        return self._list(pattern)

    def _list(self, pattern: str) -> Iterator[ObjectInfo]:
        matches = uris.glob_regex(pattern).match
        bucket, prefix = _bucket(pattern), uris.parse(uris.glob_prefix(pattern)).key
        with self._translated(pattern):
            # S3 lists keys in the order of their UTF-8 bytes: sorted, by contract.
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    uri = f"s3://{bucket}/{entry['Key']}"
                    if not uri.endswith("/") and matches(uri):
                        yield ObjectInfo(uri, entry["Size"], entry["ETag"].strip('"'), entry["LastModified"])

    def stat(self, uri: str) -> ObjectInfo | None:
        """See :class:`ObjectStore`."""
        bucket, key = _bucket_and_key(uri)
        with self._translated(uri):
            try:
                return _info(uri, self._client.head_object(Bucket=bucket, Key=key))
            except BOTO_ERRORS as error:
                if not is_missing(error):
                    raise
            self._require_bucket(bucket)
        return None

    @contextlib.contextmanager
    def open(self, uri: str, *, offset: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        """See :class:`ObjectStore`."""
        if length == 0:
            yield io.BytesIO()
            return
        body = self._body(uri, offset, length)
        with contextlib.closing(body):
            yield cast("BinaryIO", io.BufferedReader(body, 1024 * 1024))

    def get(self, uri: str, *, maximum_bytes: int = 64 * 1024 * 1024) -> tuple[bytes, ObjectInfo]:
        """See :class:`ObjectStore`."""
        with contextlib.closing(self._body(uri, 0, None)) as body:
            if body.info.size > maximum_bytes:
                raise too_large(uri, body.info.size, maximum_bytes)
            data = body.readall()
        if body.info.sha256 is not None:
            _compare(uri, hashlib.sha256(data).hexdigest(), body.info.sha256)
        return data, body.info

    def download(self, uri: str, target: Path, *, sha256: str | None = None) -> ObjectInfo:
        """See :class:`ObjectStore`. Parts are fetched in parallel."""
        bucket, key = _bucket_and_key(uri)
        info = self.stat(uri)
        if info is None:
            raise RequestError(f"{uri} does not exist; check the URI.", reason="ObjectMissing")
        expected = sha256 or info.sha256
        try:
            with replacing(target, durable=False) as file:
                with self._translated(uri):
                    self._client.download_fileobj(bucket, key, file, Config=transfer_config())
                file.flush()
                if (arrived := file.tell()) != info.size and file.seek(0, io.SEEK_END) != info.size:
                    raise TemporaryError(
                        f"{uri}: {arrived} of {info.size} bytes arrived; try again.",
                        reason="DownloadTruncated",
                    )
                if expected is not None:
                    file.seek(0)
                    _compare(uri, hashlib.file_digest(file, "sha256").hexdigest(), expected)
        except OSError as error:
            raise file_error(error, target.as_uri()) from None
        return info

    def _body(self, uri: str, offset: int, length: int | None) -> ResumingBody:
        bucket, key = _bucket_and_key(uri)

        def fetch(start: int, etag: str | None) -> Any:
            end = "" if length is None else str(offset + length - 1)
            ranged: dict[str, str] = {"Range": f"bytes={start}-{end}"} if start or end else {}
            if etag is not None:
                ranged["IfMatch"] = f'"{etag}"'
            return self._client.get_object(Bucket=bucket, Key=key, **ranged)

        def info(answer: Any) -> ObjectInfo:
            return _info(uri, answer)

        return ResumingBody(uri, offset, fetch=fetch, info=info, failed=lambda error: self._error(error, uri))

    # -- writing ----------------------------------------------------------------------------------------

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        bucket, key = _bucket_and_key(uri)
        write_id, digest = secrets.token_hex(16), hashlib.sha256(data).hexdigest()
        arguments = {
            "Bucket": bucket,
            "Key": key,
            "Body": data,
            "ChecksumAlgorithm": "SHA256",
            "Metadata": {_SHA256: digest, _WRITE_ID: write_id},
            **self._encryption(),
        }
        match condition:
            case None:
                with self._translated(uri):
                    answer = self._client.put_object(**arguments)
                return ObjectInfo(uri, len(data), answer["ETag"].strip('"'), sha256=digest)
            case Absent():
                arguments["IfNoneMatch"] = "*"
            case _:
                arguments["IfMatch"] = f'"{condition.etag}"'
        return self._put_if(uri, arguments, write_id)

    def _put_if(self, uri: str, arguments: dict[str, Any], write_id: str) -> ObjectInfo:
        for attempt in range(_CONFLICT_ATTEMPTS):
            try:
                answer = self._client.put_object(**arguments)
            except BOTO_ERRORS as error:
                if (own := self._own_write(uri, error, write_id)) is not None:
                    return own
                code = error_code(error)
                if code == "ConditionalRequestConflict":
                    # Two writers met inside the store and neither lost yet: S3 asks to try again.
                    time.sleep(random.uniform(0.0, 0.05 * 2**attempt))
                    continue
                if status_code(error) == 412 or ("IfMatch" in arguments and is_missing(error)):
                    self._require_bucket(arguments["Bucket"])
                    raise ConditionFailed(uri) from None
                raise self._error(error, uri) from None
            return ObjectInfo(uri, len(arguments["Body"]), answer["ETag"].strip('"'))
        raise ConditionFailed(uri)

    def _own_write(self, uri: str, error: Exception, write_id: str) -> ObjectInfo | None:
        """What we wrote, when the write was done although its answer says otherwise or never came."""
        retried = (
            isinstance(error, BOTO_ERRORS[0])
            and error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
        )
        answered = status_code(error) != 0
        if (
            answered
            and status_code(error) < 500
            and not retried
            and error_code(error) != "ConditionalRequestConflict"
        ):
            return None
        bucket, key = _bucket_and_key(uri)
        try:
            head = self._client.head_object(Bucket=bucket, Key=key)
        except BOTO_ERRORS as second:
            if is_missing(second):
                return None
            raise self._error(second, uri) from None
        return _info(uri, head) if head.get("Metadata", {}).get(_WRITE_ID) == write_id else None

    def upload(self, source: Path, uri: str) -> ObjectInfo:
        """See :class:`ObjectStore`. Each part carries a SHA-256 that the store checks; the whole one is kept with it."""
        bucket, key = _bucket_and_key(uri)
        try:
            with source.open("rb") as file, self._translated(uri):
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                extra = {"ChecksumAlgorithm": "SHA256", "Metadata": {_SHA256: digest}, **self._encryption()}
                self._client.upload_fileobj(file, bucket, key, ExtraArgs=extra, Config=transfer_config())
        except OSError as error:
            raise file_error(error, source.as_uri()) from None
        return self._written(uri, sha256=digest)

    def copy(self, source: str, target: str) -> ObjectInfo:
        """See :class:`ObjectStore`. Both URIs are at this store's endpoint."""
        info = self.stat(source)
        if info is None:
            raise RequestError(f"{source} does not exist; check the URI.", reason="ObjectMissing")
        from_bucket, from_key = _bucket_and_key(source)
        bucket, key = _bucket_and_key(target)
        origin = {"Bucket": from_bucket, "Key": from_key}
        with self._translated(target):
            if info.size <= _COPY_BYTES:
                self._client.copy_object(Bucket=bucket, Key=key, CopySource=origin, **self._encryption())
            else:
                # A copy by parts makes a new object: what was kept beside the old one is given again.
                kept = {"Metadata": {_SHA256: info.sha256}} if info.sha256 else {}
                self._client.copy(
                    origin, bucket, key, ExtraArgs={**kept, **self._encryption()}, Config=transfer_config()
                )
        return self._written(target, size=info.size)

    def local_path(self, uri: str) -> Path | None:  # noqa: ARG002
        """See :class:`ObjectStore`. Never: these objects lie on no machine of ours."""
        return None

    def delete(self, uri: str) -> None:
        """See :class:`ObjectStore`."""
        bucket, key = _bucket_and_key(uri)
        with self._translated(uri):
            try:
                self._client.delete_object(Bucket=bucket, Key=key)
            except BOTO_ERRORS as error:
                if not is_missing(error):
                    raise

    def _written(self, uri: str, *, sha256: str | None = None, size: int | None = None) -> ObjectInfo:
        info = self.stat(uri)
        if (
            info is None
            or (sha256 and info.sha256 not in (None, sha256))
            or (size is not None and info.size != size)
        ):
            raise TemporaryError(
                f"{uri} was changed by someone else while it was written; let one writer at a time use it.",
                reason="ObjectChanged",
            )
        return info

    # -- edges ------------------------------------------------------------------------------------------

    def _encryption(self) -> dict[str, str]:
        wanted = self._spec.server_side_encryption
        if wanted is None:
            return {}
        if wanted.type == "AES256":
            return {"ServerSideEncryption": "AES256"}
        key = {"SSEKMSKeyId": wanted.kms_key_id} if wanted.kms_key_id else {}
        return {"ServerSideEncryption": "aws:kms", **key}

    def _require_bucket(self, bucket: str) -> None:
        """HEAD of an object cannot tell a missing key from a missing bucket; ask once."""
        with self._lock:
            if bucket in self._buckets_seen:
                return
        try:
            self._client.head_bucket(Bucket=bucket)
        except BOTO_ERRORS as error:
            if is_missing(error):
                error.response["Error"]["Code"] = "NoSuchBucket"
                raise self._error(error, f"s3://{bucket}/") from None
            if error_code(error) not in ("403", "AccessDenied"):
                raise self._error(error, f"s3://{bucket}/") from None
            # Without the right to list, the bucket exists all the same.
        with self._lock:
            self._buckets_seen.add(bucket)

    @contextlib.contextmanager
    def _translated(self, uri: str) -> Iterator[None]:
        try:
            yield
        except BOTO_ERRORS as error:
            raise self._error(error, uri) from None

    def _error(self, error: Exception, uri: str) -> StageError:
        return translate(error, uri, bucket=uris.parse(uri).root, endpoint=shown_endpoint(self._client))


def _bucket(uri: str) -> str:
    location = uris.parse(uri)
    if not location.root:
        raise RequestError(f"{uri} names no bucket; write s3://bucket/key.", reason="UriInvalid")
    return location.root


def _bucket_and_key(uri: str) -> tuple[str, str]:
    key = uris.parse(uri).key
    if not key or key.endswith("/"):
        raise RequestError(f"{uri} is a folder; name an object.", reason="KeyIsFolder")
    return _bucket(uri), key


def _info(uri: str, answer: Any) -> ObjectInfo:
    size = answer["ContentLength"]
    if "ContentRange" in answer:
        size = int(answer["ContentRange"].rpartition("/")[2])
    return ObjectInfo(
        uri,
        size,
        answer["ETag"].strip('"'),
        answer.get("LastModified"),
        answer.get("Metadata", {}).get(_SHA256),
    )


def _compare(uri: str, found: str, expected: str) -> None:
    if found != expected:
        raise checksum_differs(uri, found=found, expected=expected)
