"""A real Prometheus and its promtool for tests: from PATH, or unpacked once from the distribution's package.

Where neither is possible the tests that need it are skipped with the reason; with ``CI=true`` they fail instead.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.cluster.prometheus import Unavailable, binary

from support.serving import free_port, serving

__all__ = ["Prometheus", "promtool", "required", "running"]


def required(name: str) -> Path:
    """``prometheus`` or ``promtool``; skips the test where it cannot be had, fails it there when CI=true."""
    try:
        return binary(name)
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs {name}: {reason}")
        pytest.skip(f"no {name}: {reason}")


def promtool(*arguments: str | Path) -> str:
    """What promtool says; its refusal fails the test."""
    done = subprocess.run(
        [required("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **query: Any) -> Any:
        """The ``data`` of an API answer. Raises AssertionError with the server's words."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  our own server
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()[:500]}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Instant vector of an expression."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def wait(self, expression: str, seconds: float = 60.0) -> list[dict[str, Any]]:
        """The expression's first answer with a number in it: scrapes come when they come.

        A quantile of what has not happened between two of them is NaN, and Grafana leaves a gap.
        """
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            found = self.query(expression)
            if any(not math.isnan(float(row["value"][1])) for row in found):
                return found
            time.sleep(0.2)  # a scrape of another process has no event to wait for
        targets = self.get("targets", state="active")["activeTargets"]
        raise AssertionError(f"no numbers for {expression}; targets: {[t['lastError'] for t in targets]}")


@contextmanager
def running(
    folder: Path,
    targets: dict[str, list[str]],
    rules: list[Path],
    *,
    labels: dict[str, dict[str, str]] | None = None,
    scrape_seconds: int = 1,
) -> Iterator[Prometheus]:
    """A server that scrapes ``targets`` until the block ends.

    targets: ``host:port``, or ``host:port/path`` where it is not /metrics, by job; those of a job share one path.
    labels: by job, what a cluster's service discovery would add.
    """
    port = free_port()
    interval = f"{scrape_seconds}s"
    config = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": job,
                "honor_labels": True,
                "metrics_path": f"/{addresses[0].partition('/')[2] or 'metrics'}",
                "static_configs": [
                    {
                        "targets": [address.partition("/")[0] for address in addresses],
                        "labels": (labels or {}).get(job, {}),
                    }
                ],
            }
            for job, addresses in targets.items()
        ],
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [
        str(required("prometheus")),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    url = f"http://127.0.0.1:{port}"
    with serving(command, folder / "prometheus.log", f"{url}/-/ready"):
        yield Prometheus(url)
