"""Streams rows out of source files: JSON lines, plain, gzip or zstd, and parquet. Memory is bounded by one row.

A damaged line is a refused row; a file that cannot be read on (truncated, not what its name says, blown up by
compression) ends the run, because nobody knows what the rest of it held.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from alignment_trainer.data.compression import Damaged, decompressed
from alignment_trainer.data.formats import FIELDS
from alignment_trainer.data.parquet_rows import MAXIMUM_ROW_BYTES, parquet_rows
from alignment_trainer.data.rows import Place, RowError
from alignment_trainer.errors import DataError, RequestError, TemporaryError
from alignment_trainer.storage.store import ObjectInfo, ObjectStore

__all__ = ["SUFFIXES", "SourceFile", "read_rows"]

_CHUNK_BYTES: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def read_rows(uri: str, store: ObjectStore) -> Iterator[tuple[Place, object | RowError]]:
    """Rows of one file that is no source: exclusions. Raises as ``SourceFile.rows`` does, RequestError when it is missing."""
    info = store.stat(uri)
    if info is None:
        raise RequestError(f"{uri} does not exist; check the URI.", reason="ObjectMissing")
    with tempfile.TemporaryDirectory() as scratch:
        yield from SourceFile(info, store, Path(scratch)).rows()


class SourceFile:
    """One file of a source. sha256 and etag are known after the last row was read.

    scratch: where a parquet file is put when the store is remote (its index is at its end). columns: read of a parquet file.
    """

    def __init__(
        self, info: ObjectInfo, store: ObjectStore, scratch: Path, columns: Collection[str] = FIELDS
    ) -> None:
        self.info = info
        self.sha256 = ""
        self._store = store
        self._scratch = scratch
        self._columns = columns

    def rows(self) -> Iterator[tuple[Place, object | RowError]]:
        """Rows with their places; a row that is not JSON comes as the RowError that says so.

        Raises DataError, naming file and place, when the file itself is damaged or of an unknown kind;
        TemporaryError when it is replaced while being read.
        """
        uri = self.info.uri
        if uri.endswith(".parquet"):
            yield from self._parquet()
        elif uri.endswith(SUFFIXES):
            yield from self._json_lines()
        else:
            raise DataError(
                f"{uri} has an unknown kind of file; sources end in {', '.join(SUFFIXES)}. docs/data.md turns a CSV into one.",
                reason="FileUnknown",
            )

    def _json_lines(self) -> Iterator[tuple[Place, object | RowError]]:
        uri = self.info.uri
        with self._store.open(uri) as raw:
            source = _Hashed(raw)
            line = 0
            try:
                for line, data in enumerate(_lines(decompressed(uri, source.chunks())), start=1):
                    if isinstance(data, RowError):
                        yield Place(uri, line), data
                    elif data.strip():
                        yield Place(uri, line), _parsed(data.removeprefix(_BOM) if line == 1 else data)
            except Damaged as error:
                raise DataError(f"{uri}: after line {line} {error}", reason=error.reason) from None
        self._finish(source.size, source.digest.hexdigest())

    def _parquet(self) -> Iterator[tuple[Place, object | RowError]]:
        uri = self.info.uri
        path = self._store.local_path(uri)
        temporary = None
        if path is None:
            path = temporary = self._scratch / "source.parquet"
            self._store.download(uri, path)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            for number, row in enumerate(parquet_rows(path, uri, self._columns), start=1):
                yield Place(uri, number), row
            self._finish(path.stat().st_size, digest)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _finish(self, size: int, sha256: str) -> None:
        # The etag of the listing stands in the manifest beside the hash of what was read: they must belong together.
        now = self._store.stat(self.info.uri)
        if size != self.info.size or now is None or now.etag != self.info.etag:
            raise TemporaryError(
                f"{self.info.uri} was replaced while it was read. It is read anew; sources should not change while a "
                "run prepares.",
                reason="SourceChanged",
            )
        self.sha256 = sha256


class _Hashed:
    """A stream in chunks, hashed on the way."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()
        self.size = 0

    def chunks(self) -> Iterator[bytes]:
        """The stream's bytes."""
        while chunk := self._raw.read(_CHUNK_BYTES):
            self.digest.update(chunk)
            self.size += len(chunk)
            yield chunk


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes | RowError]:
    """Lines without their ends. What is longer than the limit is skipped over, chunk by chunk."""
    pending, skipping = b"", False
    for chunk in chunks:
        *whole, rest = (pending + chunk).split(b"\n")
        for part in whole:
            yield _too_long() if skipping or len(part) > MAXIMUM_ROW_BYTES else part
            skipping = False
        skipping = skipping or len(rest) > MAXIMUM_ROW_BYTES
        pending = b"" if skipping else rest
    if pending or skipping:
        yield _too_long() if skipping else pending


def _too_long() -> RowError:
    return RowError("LineTooLong", f"the line has more than {MAXIMUM_ROW_BYTES // 1024**2} MiB")


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are not JSON


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def _parsed(data: bytes) -> object | RowError:
    try:
        parsed: object = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        return RowError("NotUtf8", "the line is not valid UTF-8")
    except (ValueError, RecursionError):
        return RowError("NotJson", "the line is not a JSON value")
    if _SURROGATE.search(data):
        try:
            json.dumps(parsed, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return RowError("LoneSurrogate", "the line has half a surrogate pair, which is not text")
        except RecursionError:
            return RowError("NotJson", "the line is not a JSON value")
    return parsed
