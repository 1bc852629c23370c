"""The body of an S3 object as a stream that survives broken connections.

boto3 retries requests, not bodies: a connection that breaks while a body is read is the reader's problem. Here
the rest is asked for from where it broke, and only of the same version of the object.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import FlexibleChecksumError

from alignment_trainer.errors import StageError, TemporaryError
from alignment_trainer.storage.s3_errors import BOTO_ERRORS, error_code, status_code
from alignment_trainer.storage.store import ObjectInfo

__all__ = ["ResumingBody"]

_RESUMPTIONS: Final = 4
"""Breaks in a row without a byte of progress between them."""


class ResumingBody(io.RawIOBase):
    """Raw stream of one object, from ``offset`` to the end of what ``fetch`` asks for.

    fetch: (start, etag or None) -> get_object's answer. failed: botocore's error -> ours.
    """

    def __init__(
        self,
        uri: str,
        offset: int,
        *,
        fetch: Callable[[int, str | None], Any],
        info: Callable[[Any], ObjectInfo],
        failed: Callable[[Exception], StageError],
    ) -> None:
        self._uri = uri
        self._position = offset
        self._fetch = fetch
        self._failed = failed
        self._body: Any = None
        try:
            answer = fetch(offset, None)
        except BOTO_ERRORS as error:
            if error_code(error) != "InvalidRange" and status_code(error) != 416:
                raise failed(error) from None
            # Beyond the end there is nothing, as with a file.
            self.info, self._end = ObjectInfo(uri, offset, ""), offset
            return
        self.info = info(answer)
        self._body = answer["Body"]
        self._end = offset + answer["ContentLength"]

    def readable(self) -> bool:
        """True, always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; 0 at the end. Raises TemporaryError when the body keeps breaking off."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._end - self._position)
        if wanted <= 0:
            return 0
        for attempt in range(_RESUMPTIONS + 1):
            try:
                data = self._body.read(wanted)
            except FlexibleChecksumError as error:
                raise self._failed(error) from None  # all bytes came, and they are not the right ones
            except (*BOTO_ERRORS, OSError):
                data = b""
            if data:
                view[: len(data)] = data
                self._position += len(data)
                return len(data)
            if attempt < _RESUMPTIONS:
                self._resume()
        raise TemporaryError(
            f"{self._uri}: the body ended after {self._position} of {self._end} bytes, again and again; "
            "look at the network and the store, then try again.",
            reason="DownloadTruncated",
        )

    def _resume(self) -> None:
        self._body.close()
        try:
            self._body = self._fetch(self._position, self.info.etag)["Body"]
        except BOTO_ERRORS as error:
            if status_code(error) == 412:
                raise TemporaryError(
                    f"{self._uri} was replaced while it was read; try again, and let writers finish first.",
                    reason="ObjectChanged",
                ) from None
            raise self._failed(error) from None

    def close(self) -> None:
        """Give the connection back."""
        if self._body is not None:
            self._body.close()
        super().close()
