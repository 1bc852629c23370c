"""A real Prometheus on this machine that scrapes the operator's and the stages' pods.

Pods are chosen by the labels that the chart's ServiceMonitor and PodMonitor select, and scraped through ``kubectl proxy``,
so that it needs neither an image nor a route to the pods' network.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.cluster import paths, shell
from tools.cluster.chart import CHART
from tools.cluster.kubectl import Kubectl

__all__ = ["Prometheus", "Unavailable", "binary", "discover", "start", "stop"]

Json = dict[str, Any]
_DAEMONS = ("prometheus", "kubectl-proxy")
_SCRAPE_SECONDS = 2
_JOBS = {
    "alignment-operator": ("app.kubernetes.io/name=alignment-operator", 8080),
    "alignment-stages": ("alignment.dev/run", 8081),
}
"""Label and port of the pods of each job."""


class Unavailable(Exception):
    """Why there is no Prometheus."""


@dataclass(frozen=True)
class Prometheus:
    """A running server, by its address."""

    url: str

    def over(self, expression: str, began: float, ended: float) -> list[float]:
        """Every value that an expression had in a stretch of time (seconds since 1970), of all its series."""
        query = {"query": expression, "start": began, "end": ended, "step": _SCRAPE_SECONDS}
        address = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  our own server
            series = json.load(answer)["data"]["result"]
        return [float(value) for one in series for _, value in one["values"]]


def start(kubectl: Kubectl) -> Prometheus:
    """Start it, unless it runs. Raises Unavailable, or shell.Failed when it does not come up."""
    program = binary("prometheus")
    state = paths.state()
    state.mkdir(parents=True, exist_ok=True)
    note = state / "prometheus.json"
    if not note.exists() or not all(shell.alive(name, state) for name in _DAEMONS):
        stop()
        proxy, web = _free_port(), _free_port()
        shell.start("kubectl-proxy", [kubectl.program, *kubectl.where(), "proxy", f"--port={proxy}"], state)
        config = state / "prometheus.yaml"
        config.write_text(yaml.safe_dump(_config(state)), encoding="utf-8")
        flags = [
            f"--config.file={config}",
            f"--storage.tsdb.path={state / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{web}",
            "--log.level=warn",
        ]
        shell.start("prometheus", [program, *flags], state)
        note.write_text(
            json.dumps({"url": f"http://127.0.0.1:{web}", "api": f"127.0.0.1:{proxy}"}), encoding="utf-8"
        )
    found = Prometheus(json.loads(note.read_text(encoding="utf-8"))["url"])
    shell.wait_until("Prometheus is ready", 60, lambda: _answers(found.url))
    discover(kubectl)
    return found


def stop() -> None:
    """Stop it and forget what it has recorded. Does nothing where it does not run."""
    state = paths.state()
    for name in _DAEMONS:
        shell.stop(name, state)
        (state / f"{name}.log").unlink(missing_ok=True)
    shutil.rmtree(state / "prometheus", ignore_errors=True)
    for note in ("prometheus.json", "prometheus.yaml", *(f"{name}.json" for name in _JOBS)):
        (state / note).unlink(missing_ok=True)


def binary(name: str) -> Path:
    """``prometheus`` or ``promtool``, from PATH or unpacked once from Debian's package. Raises Unavailable."""
    found = shutil.which(name)
    if found:
        return Path(found)
    unpacked = paths.cache() / "prometheus"
    if not unpacked.exists():
        _unpack(unpacked)
    return unpacked / "usr" / "bin" / name


def discover(kubectl: Kubectl) -> None:
    """Tell the running server which pods there are now: those that the chart's monitors select."""
    state = paths.state()
    api = json.loads((state / "prometheus.json").read_text(encoding="utf-8"))["api"]
    for name, (label, port) in _JOBS.items():
        listed = json.loads(kubectl("get", "pods", "-A", "-l", label, "-o", "json"))["items"]
        running = [pod["metadata"] for pod in listed if pod["status"].get("phase") == "Running"]
        targets = [_target(api, pod["namespace"], pod["name"], port) for pod in running]
        new = state / f"{name}.new"
        new.write_text(json.dumps(targets), encoding="utf-8")
        new.replace(state / f"{name}.json")


def _target(api: str, namespace: str, pod: str, port: int) -> Json:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics"
    labels = {
        "__metrics_path__": path,
        "namespace": namespace,
        "pod": pod,
        "instance": f"{namespace}/{pod}",
    }
    return {"targets": [api], "labels": labels}


def _config(state: Path) -> Json:
    """The chart's rules; targets come from files, because Debian's build cannot ask an API server."""
    interval = f"{_SCRAPE_SECONDS}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(CHART / "files" / "rules.yaml")],
        "scrape_configs": [
            {
                "job_name": name,
                "honor_labels": True,
                "file_sd_configs": [{"files": [str(state / f"{name}.json")], "refresh_interval": interval}],
            }
            for name in _JOBS
        ],
    }


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:  # noqa: S310  our own server
            return bool(answer.status == 200)
    except OSError:
        return False


def _unpack(target: Path) -> None:
    """Download the package and unpack it without installing: no service is started, no user is made."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("prometheus is not on PATH, and there is no apt-get that could fetch it")
    # Unpacked beside its place: parallel processes each see nothing or the whole.
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
