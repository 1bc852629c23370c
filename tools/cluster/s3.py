"""An S3 server inside the cluster, and a way to it from this machine."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tools.cluster import shell
from tools.cluster.kubectl import Kubectl

__all__ = ["ACCESS_KEY", "ENDPOINT", "SECRET_KEY", "Tunnel", "install", "secret"]

ENDPOINT = "http://s3.storage.svc:7070"
"""What pods use."""
# Of a server that lives as long as the cluster and answers only inside it.
ACCESS_KEY = "cluster-access"
SECRET_KEY = "cluster-secret"  # noqa: S105

_MANIFEST = Path(__file__).parent / "manifests" / "s3.yaml"


def install(kubectl: Kubectl, image: str) -> None:
    """Start the server in namespace ``storage`` and wait until it answers."""
    text = _MANIFEST.read_text().replace("$(IMAGE)", image)
    for place, value in (("$(ACCESS_KEY)", ACCESS_KEY), ("$(SECRET_KEY)", SECRET_KEY)):
        text = text.replace(place, value)
    kubectl.apply(text)
    kubectl("-n", "storage", "rollout", "status", "deployment/s3", "--timeout=120s")


def secret(name: str = "s3") -> dict[str, Any]:
    """The Secret by which runs of one namespace reach the server."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    }


@dataclass
class Tunnel:
    """kubectl port-forward to the server; started when it is needed, again after it broke."""

    kubectl: Kubectl
    _process: subprocess.Popen[str] | None = None
    _port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self) -> Any:
        """A boto3 client for the server."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._open()}",
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5, "mode": "standard"}),
        )

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> None:
        """Copy every file under a folder into a bucket, which is made when it is missing."""
        client = self.client()
        with contextlib.suppress(
            client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
        ):
            client.create_bucket(Bucket=bucket)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            client.upload_file(str(file), bucket, f"{prefix}{file.relative_to(folder)}")

    def close(self) -> None:
        """End the tunnel."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def _open(self) -> int:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return self._port
            self.close()
            command = [
                self.kubectl.program,
                *self.kubectl.where(),
                "-n",
                "storage",
                "port-forward",
                "service/s3",
                ":7070",
            ]
            self._process = subprocess.Popen(
                [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            # "Forwarding from 127.0.0.1:41234 -> 7070"
            line = self._process.stdout.readline() if self._process.stdout is not None else ""
            if " -> " not in line:
                raise shell.Failed(f"kubectl port-forward to the S3 server did not start: {line!r}")
            self._port = int(line.split(" -> ")[0].rpartition(":")[2])
            return self._port
