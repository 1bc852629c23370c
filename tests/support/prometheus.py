"""A real Prometheus and its promtool for tests: from PATH, or unpacked once from the distribution's package.

Where neither is possible the tests that need it are skipped with the reason; with ``CI=true`` they fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
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

from support.serving import free_port, serving

__all__ = ["Prometheus", "Unavailable", "binary", "required", "running"]


class Unavailable(Exception):
    """Why there is no Prometheus."""


def binary(name: str) -> Path:
    """``prometheus`` or ``promtool``. Raises Unavailable with the reason."""
    found = shutil.which(name)
    if found:
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignment-operator"
    unpacked = cache / "prometheus"
    if not unpacked.exists():
        _unpack(unpacked)
    return unpacked / "usr" / "bin" / name


def required(name: str) -> Path:
    """As :func:`binary`; skips the test where it cannot be had, fails it there when CI=true."""
    try:
        return binary(name)
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs {name}: {reason}")
        pytest.skip(f"no {name}: {reason}")


def _unpack(target: Path) -> None:
    """Download the package and unpack it without installing: no service is started, no user is made."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("prometheus is not on PATH, and there is no apt-get that could fetch it")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked beside its place: parallel test processes each see nothing or the whole.
    work = target.with_name(f".prometheus-{os.getpid()}")
    work.mkdir()
    try:
        _fetch(work)
        (package,) = work.glob("*.deb")
        subprocess.run(
            ["dpkg-deb", "-x", package, work / "root"], check=True, capture_output=True, timeout=120
        )
        if not target.exists():
            (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(folder: Path) -> None:
    download = ["apt-get", "download", "prometheus"]
    for command in (download, ["apt-get", "update", "-qq"], download):
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{' '.join(command)}: {error}") from error
        if command is download and done.returncode == 0:
            return
    raise Unavailable(f"apt-get download prometheus: {done.stderr.strip()[-300:]}")


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
        """The expression's first answer that is not empty: scrapes come when they come."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if found := self.query(expression):
                return found
            time.sleep(0.2)
        targets = self.get("targets", state="active")["activeTargets"]
        raise AssertionError(f"no data for {expression}; targets: {[t['lastError'] for t in targets]}")


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
