"""Builds the boto3 client: retries, timeouts, addressing. Called by :mod:`s3` alone."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from alignment_api.spec import StorageSpec
from alignment_trainer.errors import RequestError
from alignment_trainer.storage.s3_errors import BOTO_ERRORS, translate

__all__ = ["build_client", "shown_endpoint", "transfer_config"]

_PART_BYTES: Final = 16 * 1024 * 1024
_ATTEMPTS: Final = 5
_CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
"""Without a byte. boto3's own defaults, 60 s for each, make five attempts at a dead endpoint last five minutes."""


def build_client(spec: StorageSpec) -> Any:
    """A boto3 client for ``spec``; opens no connection. Raises RequestError when the endpoint is not a URL."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=16,
        s3={"addressing_style": "path" if spec.endpoint else "auto"},
        user_agent_appid="alignment-operator",
    )
    try:
        return boto3.session.Session().client(
            "s3", endpoint_url=spec.endpoint, region_name=spec.region or _fallback_region(spec), config=config
        )
    except BOTO_ERRORS as error:
        raise translate(error, "spec.storage", bucket="", endpoint=spec.endpoint or "AWS") from None
    except ValueError:
        raise RequestError(
            "spec.storage.endpoint is not a URL; write http://host:port or https://host.",
            reason="WrongEndpoint",
        ) from None


def _fallback_region(spec: StorageSpec) -> str | None:
    # Stores of one's own have no regions, but the signature needs one; theirs is by custom us-east-1.
    import boto3

    return boto3.session.Session().region_name or ("us-east-1" if spec.endpoint else None)


def transfer_config() -> Any:
    """How large files are cut: parts of 16 MiB, eight at a time."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=8, use_threads=True
    )


def shown_endpoint(client: Any) -> str:
    """The endpoint without a user name or password that someone may have put into it."""
    parts = urlsplit(client.meta.endpoint_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"
