"""The API server without kubectl's cost per call: a proxy of kubectl, and plain requests."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tools.cluster.kubectl import Kubectl

__all__ = ["Api", "Refused", "connected"]

Json = dict[str, Any]
_RUNS = "/apis/alignment.dev/v1alpha1/namespaces/{namespace}/alignmentruns"


class Refused(Exception):
    """What the API server said."""


@dataclass(frozen=True)
class Api:
    """Runs of one namespace, through the proxy."""

    base: str
    namespace: str

    def create(self, manifest: Json, *, dry_run: bool = True) -> Json:
        """POST; unknown fields are errors. Raises Refused."""
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self._request("POST", query, manifest)

    def replace(self, manifest: Json, *, part: str = "", dry_run: bool = True) -> Json:
        """PUT of a run, or of its status with part="/status". Raises Refused."""
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self._request("PUT", f"/{manifest['metadata']['name']}{part}{query}", manifest)

    def get(self, name: str) -> Json:
        """A run as it is now. Raises Refused."""
        return self._request("GET", f"/{name}")

    def _request(self, method: str, rest: str, body: Json | None = None) -> Json:
        url = self.base + _RUNS.format(namespace=self.namespace) + rest
        request = urllib.request.Request(  # noqa: S310  the proxy on this machine
            url,
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                found: Json = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["message"]) from None


@contextmanager
def connected(kubectl: Kubectl, namespace: str) -> Iterator[Api]:
    """kubectl proxy on a free port, for as long as the block lasts."""
    command = [str(part) for part in (kubectl.program, *kubectl.where(), "proxy", "--port=0")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            # "Starting to serve on 127.0.0.1:41234"
            yield Api(f"http://{process.stdout.readline().split()[-1]}", namespace)
        finally:
            process.terminate()
