"""A real S3 server for tests: versitygw on a random port of the loopback, keeping objects in a folder.

The binary is taken from PATH, or built once from its Go module into the user's cache. Where neither is
possible the tests that need it are skipped with the reason; with ``CI=true`` they fail instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.cluster import binaries

from alignment_api.spec import StorageSpec
from support.serving import free_port, serving

ACCESS_KEY = "test-access"
SECRET_KEY = "test-secret-never-printed"


@dataclass(frozen=True)
class S3Server:
    """A running server. environment: what a process needs to reach it with boto3's own chain."""

    endpoint: str
    folder: Path

    @property
    def spec(self) -> StorageSpec:
        return StorageSpec(endpoint=self.endpoint, region="us-east-1")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A plain boto3 client, for looking behind the store's back."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )

    def create_bucket(self, name: str) -> str:
        """Make an empty bucket; returns its URI, which ends with ``/``."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}/"


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """Run a server that keeps its objects in ``folder``; stopped at the end."""
    binary = binaries.find("versitygw")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command: list[str | Path] = [
        binary,
        "--port",
        f"127.0.0.1:{port}",
        "--health",
        "/healthz",
        "--quiet",
        "posix",
        str(folder),
    ]
    with serving(
        command,
        folder.parent / "versitygw.log",
        f"http://127.0.0.1:{port}/healthz",
        {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
    ):
        yield S3Server(f"http://127.0.0.1:{port}", folder)
