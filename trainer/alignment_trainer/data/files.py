"""Streams rows out of source files: JSON lines, plain, gzip or zstd, and parquet. Memory is bounded by one row.

A damaged line is a refused row; a file that cannot be read on (truncated, not what its name says) ends the
run, because nobody knows what the rest of it held.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

from alignment_trainer.data.rows import Place, RowError
from alignment_trainer.errors import DataError
from alignment_trainer.storage.store import ObjectStore

__all__ = ["MAXIMUM_LINE_BYTES", "SUFFIXES", "read_rows"]

MAXIMUM_LINE_BYTES: Final = 8 * 1024 * 1024
"""Longest line that is parsed; a longer one is refused without being held in memory."""
_CHUNK_BYTES: Final = 1024 * 1024
_PARQUET_ROWS: Final = 1024

SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def read_rows(uri: str, store: ObjectStore) -> Iterator[tuple[Place, object | RowError]]:
    """Rows of a file with their places; a row that is not JSON comes as the RowError that says so.

    Raises DataError, naming file and place, when the file itself is damaged or of an unknown kind.
    """
    if uri.endswith(".parquet"):
        yield from _parquet(uri, store)
        return
    if not uri.endswith(SUFFIXES):
        raise DataError(
            f"{uri} has an unknown kind of file; sources end in {', '.join(SUFFIXES)}.", reason="FileUnknown"
        )
    with store.open(uri) as raw:
        line = 0
        try:
            for line, data in enumerate(_lines(_decompressed(uri, raw)), start=1):
                if isinstance(data, RowError) or data.strip():
                    yield Place(uri, line), data if isinstance(data, RowError) else _parsed(data)
        except (EOFError, gzip.BadGzipFile, zlib.error, _zstd_error()) as error:
            raise DataError(
                f"{uri}: the compressed data is damaged or cut after line {line} ({type(error).__name__}); upload it again.",
                reason="FileDamaged",
            ) from None


def _decompressed(uri: str, raw: BinaryIO) -> BinaryIO:
    if uri.endswith(".gz"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if uri.endswith(".zst"):
        import zstandard

        return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return raw


def _zstd_error() -> type[Exception]:
    import zstandard

    return cast("type[Exception]", zstandard.ZstdError)


def _lines(stream: BinaryIO) -> Iterator[bytes | RowError]:
    """Lines without their ends. What is longer than the limit is skipped over, chunk by chunk."""
    pending, skipping = b"", False
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, rest = (pending + chunk).split(b"\n")
        for part in whole:
            yield _too_long() if skipping or len(part) > MAXIMUM_LINE_BYTES else part
            skipping = False
        skipping = skipping or len(rest) > MAXIMUM_LINE_BYTES
        pending = b"" if skipping else rest
    if pending or skipping:
        yield _too_long() if skipping else pending


def _too_long() -> RowError:
    return RowError("LineTooLong", f"the line has more than {MAXIMUM_LINE_BYTES // 1024**2} MiB")


def _parsed(data: bytes) -> object | RowError:
    try:
        parsed: object = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        return RowError("NotUtf8", "the line is not valid UTF-8")
    except (ValueError, RecursionError):
        return RowError("NotJson", "the line is not a JSON value")
    return parsed


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _parquet(uri: str, store: ObjectStore) -> Iterator[tuple[Place, object | RowError]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with store.open(uri) as stream:
        try:
            file = pq.ParquetFile(pa.BufferReader(stream.read()) if not stream.seekable() else stream)
            line = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    line += 1
                    yield Place(uri, line), {key: value for key, value in row.items() if value is not None}
        except (pa.ArrowException, OSError, io.UnsupportedOperation) as error:
            raise DataError(
                f"{uri} is not a readable parquet file ({type(error).__name__}); write it again.",
                reason="FileDamaged",
            ) from None
