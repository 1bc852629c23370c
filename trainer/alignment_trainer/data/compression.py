"""Decompression of source files in bounded memory: gzip and zstd, any number of members, no bombs.

The libraries' file objects are not enough here: zstd's does not notice a file cut in half, and neither stops
at a bomb. Each step of decompression is bounded, so a chunk never grows into gigabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["Damaged", "decompressed", "refuse_bomb"]

_OUTPUT_BYTES: Final = 1024 * 1024
_ZSTD_INPUT_BYTES: Final = 1024
"""Input of one zstd step: a block of 4 bytes can stand for 128 KiB, so this much may become 32 MiB, not more."""
_BOMB_BYTES: Final = 256 * 1024 * 1024
_BOMB_RATIO: Final = 500
"""Expansion beyond both limits is refused. Event logs compress 5 to 30 times; a file of zeros 1000 times."""


class Damaged(Exception):
    """The compressed data cannot be read on. reason: CamelCase; the text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decompressed(name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a file whose suffix says how it is compressed. Raises Damaged."""
    if name.endswith(".gz"):
        return _watched(chunks, _gunzip)
    if name.endswith(".zst"):
        return _watched(chunks, _unzstd)
    return chunks


def refuse_bomb(read: int, written: int) -> None:
    """Raise Damaged when ``read`` bytes have become ``written`` bytes and that cannot be a log."""
    if written > _BOMB_BYTES and written > _BOMB_RATIO * read:
        raise Damaged(
            "FileExpands",
            f"the file grows more than {_BOMB_RATIO} times: no log compresses like that. "
            "Check where it comes from, or upload it uncompressed.",
        )


def _watched(
    chunks: Iterator[bytes], expand: Callable[[Iterator[bytes]], Iterator[bytes]]
) -> Iterator[bytes]:
    read = written = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for chunk in chunks:
            read += len(chunk)
            yield chunk

    for out in expand(counted()):
        written += len(out)
        refuse_bomb(read, written)
        yield out


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member, begun = zlib.decompressobj(31), False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if not begun:
                    data = data.lstrip(b"\0")  # tapes and tar pad with zeros, and gzip(1) allows it
                    begun = bool(data)
                    continue
                if out := member.decompress(data, _OUTPUT_BYTES):
                    yield out
                if member.eof:
                    data, member, begun = member.unused_data, zlib.decompressobj(31), False
                else:
                    data = member.unconsumed_tail
        if begun:
            # All input may be consumed while some output still waits inside.
            if rest := member.flush():
                yield rest
            if not member.eof:
                raise _cut()
    except zlib.error as error:
        raise _broken(error) from None


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=128 * 1024 * 1024)
    frame = None
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _ZSTD_INPUT_BYTES):
                data = chunk[start : start + _ZSTD_INPUT_BYTES]
                while data:
                    frame = frame or decompressor.decompressobj()
                    if out := frame.decompress(data):
                        yield out
                    data = b""
                    if frame.eof:
                        data, frame = frame.unused_data, None
    except zstandard.ZstdError as error:
        raise _broken(error) from None
    if frame is not None:
        raise _cut()


def _cut() -> Damaged:
    return Damaged("FileDamaged", "the compressed data ends in the middle; upload the file again.")


def _broken(error: Exception) -> Damaged:
    return Damaged(
        "FileDamaged", f"the compressed data is damaged ({type(error).__name__}); upload the file again."
    )
