"""Rows of a parquet file as the JSON objects that the formats read; a few megabytes of them in memory at a time.

Only the columns that are asked for are read: what else a table holds (images, dates, nested records) is nobody's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

from alignment_trainer.data.compression import Damaged, refuse_bomb
from alignment_trainer.data.rows import RowError
from alignment_trainer.errors import DataError

__all__ = ["MAXIMUM_ROW_BYTES", "parquet_rows"]

MAXIMUM_ROW_BYTES: Final = 8 * 1024 * 1024
"""Longest row that is looked at, of every kind of file; a longer one is refused without being held in memory."""

_BATCH_ROWS: Final = 64
_BUFFER_BYTES: Final = 1024 * 1024
_BATCH_BYTES: Final = 16 * 1024 * 1024


def parquet_rows(path: Path, uri: str, columns: Collection[str]) -> Iterator[object | RowError]:
    """Rows in order. path: the local file; uri: what to call it; columns: those to read, where there are such.

    Raises DataError for a file that is not parquet, and for one that has a column twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as file:
            rows = _batch_rows(file.metadata, path, uri)
            schema = _schema(file.schema_arrow, uri, columns)
            for batch in file.iter_batches(batch_size=rows, columns=schema.names):
                known = batch.select(schema.names)  # `input` names `input.x` as well
                yield from _rows(known if known.schema == schema else known.cast(schema, safe=False))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{uri} is not a readable parquet file ({type(error).__name__}); write it again.",
            reason="FileDamaged",
        ) from None


def _batch_rows(metadata: Any, path: Path, uri: str) -> int:
    """Rows to decode at a time. Raises DataError for a file that would grow beyond all measure."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    try:
        refuse_bomb(path.stat().st_size, size)
    except Damaged as error:
        raise DataError(f"{uri}: {error}", reason=error.reason) from None
    widest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(widest, 1)))


def _schema(found: Any, uri: str, columns: Collection[str]) -> Any:
    """The columns to read, with types whose values Python has. Raises DataError where a name does not say which column."""
    import pyarrow as pa

    fields = [field for field in found if field.name in columns]
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{uri} has several columns {', '.join(twice)}; rename all but one of each.", reason="ColumnTwice"
        )
    return pa.schema([field.with_type(_readable(field.type)) for field in fields])


def _readable(kind: Any) -> Any:
    """The type with times to the microsecond and in UTC: finer ones need pandas, and zones need their names known here."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us" if kind.unit == "ns" else kind.unit, "UTC" if kind.tz else None)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_readable(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_readable(kind.value_type)))
    return kind


def _rows(batch: Any) -> Iterator[object | RowError]:
    if batch.nbytes > _BATCH_BYTES and batch.num_rows > 1:  # few values repeated often are small in the file
        for index in range(batch.num_rows):
            yield from _rows(batch.slice(index, 1))
        return
    if batch.num_rows == 1 and batch.nbytes > MAXIMUM_ROW_BYTES:
        yield RowError("LineTooLong", f"the row has more than {MAXIMUM_ROW_BYTES // 1024**2} MiB")
        return
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # Arrow checks neither what is text nor what is a time
        for index in range(batch.num_rows):
            try:
                rows = batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError:
                yield RowError("NotUtf8", "a text of the row is not valid UTF-8")
            except (ValueError, OverflowError):
                yield RowError("TimeInvalid", "a time of the row is outside the years 1 to 9999, or too fine")
            else:
                yield _as_json(rows[0])
        return
    for row in rows:
        yield _as_json(row)


def _as_json(row: dict[str, Any]) -> object | RowError:
    try:
        value: object = _value(row)
    except TypeError:
        return RowError("FieldType", "a column holds what JSON has no form for (bytes, decimals, durations)")
    return value


def _value(value: Any) -> Any:
    """JSON's own types; absent fields, which parquet writes as null, are left out."""
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, date):  # a datetime is one as well
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(type(value).__name__)
