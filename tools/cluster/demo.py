"""`make demo-cluster`: install everything, apply a real run with simulated data, watch it to its verdict.

A Prometheus records it, and at the end every query of the dashboards is asked about the time of the run.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import yaml

from alignment_cli.demo.settings import Demo
from alignment_cli.demo.setup import lay_out
from tools.cluster import binaries, judge, paths, prometheus, s3, shell
from tools.cluster.kubectl import Kubectl
from tools.cluster.prepare import prepare, say
from tools.cluster.prometheus import Prometheus
from tools.cluster.providers import choose
from tools.dashboards.__main__ import DASHBOARDS
from tools.dashboards.panels import substituted

__all__ = ["main"]

_NAMESPACE = "demo"
_BUCKET = "demo"
_DEADLINE_SECONDS = 3600.0
_SETTLE_SECONDS = 10.0
"""Several scrapes and evaluations of the rules after the end."""
_CLINICS = ("clinic-a", "clinic-b")


def main() -> int:
    """0 when the run ended with a verdict."""
    try:
        return _demo()
    except (shell.Failed, binaries.Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _demo() -> int:
    prepared = prepare(choose())
    kubectl = prepared.commands()
    say("a base model and simulated edits (a minute or two the first time)")
    settings = Demo(folder=paths.cache() / "demo")
    lay_out(settings, _tell)
    tunnel = s3.Tunnel(kubectl)
    tunnel.upload(settings.base, _BUCKET, "base/")
    tunnel.upload(_with_clinics(settings.events), _BUCKET, "feedback/")
    tunnel.close()
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
    kubectl.apply(s3.secret(), "-n", _NAMESPACE)
    _judge(kubectl, prepared.operator)
    recorder = _record(kubectl)
    run = _manifest(settings)
    name = run["metadata"]["name"]
    kubectl("-n", _NAMESPACE, "delete", "alignmentrun", name, "--ignore-not-found", "--cascade=foreground")
    say(f"kubectl -n {_NAMESPACE} apply -f run.yaml")
    began = time.time()
    kubectl.apply(run, "-n", _NAMESPACE)
    status = _watch(kubectl, name, recorder)
    print(yaml.safe_dump({"status": status}, sort_keys=False))
    if recorder is not None:
        _show_panels(recorder, began)
    say(
        "look around: "
        + " ".join(["kubectl", *kubectl.where(), "-n", _NAMESPACE, "get", "alignmentruns,jobs,pods,events"])
    )
    return 0 if status.get("verdict") else 1


def _with_clinics(events: Path) -> Path:
    """A copy of the events that names the clinic of each, so that there are cohorts to compare; its folder."""
    folder = events.parent / "with-clinics"
    folder.mkdir(exist_ok=True)
    lines = []
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        clinic = _CLINICS[zlib.crc32(event["group"].encode()) % len(_CLINICS)]
        lines.append(json.dumps({**event, "cohort": clinic}) + "\n")
    (folder / events.name).write_text("".join(lines), encoding="utf-8")
    return folder


def _judge(kubectl: Kubectl, image: str) -> None:
    """The simulated clinician answers which of two notes is better."""
    code = Path(judge.__file__).read_text(encoding="utf-8")
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "judge"},
        "data": {"judge.py": code},
    }
    kubectl.apply(config, "-n", _NAMESPACE)
    manifest = (Path(__file__).parent / "manifests" / "judge.yaml").read_text(encoding="utf-8")
    kubectl.apply(manifest.replace("$(IMAGE)", image), "-n", _NAMESPACE)
    kubectl("-n", _NAMESPACE, "rollout", "status", "deployment/judge", "--timeout=120s")


def _record(kubectl: Kubectl) -> Prometheus | None:
    """A Prometheus that records operator and stages from now on; None, with the reason said, where there is none."""
    try:
        recorder = prometheus.start(kubectl)
    except prometheus.Unavailable as reason:
        say(f"no Prometheus, so nothing is recorded: {reason}")
        return None
    say(f"Prometheus scrapes operator and stages: {recorder.url}")
    return recorder


def _show_panels(recorder: Prometheus, began: float) -> None:
    """Ask every query of the dashboards about the time of the run, and say which had nothing to show."""
    threading.Event().wait(_SETTLE_SECONDS)
    alias = f"s3://{_BUCKET}/models/aliases/champion"
    empty, asked = [], 0
    for name, build in DASHBOARDS.items():
        for panel in build()["panels"]:
            for target in panel.get("targets", ()):
                expression = substituted(target["expr"], alias, rates_over="1m")
                asked += 1
                if all(math.isnan(value) for value in recorder.over(expression, began, time.time())):
                    empty.append(f"{name}: {panel['title']}: {expression}")
    say(f"dashboards: {asked - len(empty)} of {asked} queries have data for the time of this run")
    for line in empty:
        print(f"    no data: {line}")


def _tell(activity: str, step: int, steps: int) -> None:
    """Every fifth of an activity."""
    if step * 5 // steps > (step - 1) * 5 // steps:
        say(f"{activity}: {100 * step // steps} %")


def _manifest(settings: Demo) -> dict[str, Any]:
    """The run of `align demo`, with its folder in a bucket."""
    root = settings.folder.resolve().as_uri()
    text = settings.manifest.read_text(encoding="utf-8").replace(root, f"s3://{_BUCKET}")
    run: dict[str, Any] = yaml.safe_load(text)
    run["spec"]["storage"] = {
        "endpoint": s3.ENDPOINT,
        "region": "us-east-1",
        "credentialsSecretRef": {"name": "s3"},
    }
    url = f"http://judge.{_NAMESPACE}.svc:{judge.PORT}/v1"
    run["spec"]["evaluation"]["judge"] = {"type": "OpenAICompatible", "url": url, "model": "clinician"}
    return run


def _watch(kubectl: Kubectl, name: str, recorder: Prometheus | None) -> dict[str, Any]:
    """Print each new reason until the run has ended; its status."""
    said = ""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline:
        status: dict[str, Any] = kubectl.get("alignmentrun", name, _NAMESPACE).get("status") or {}
        summary: dict[str, Any] = next(
            (c for c in status.get("conditions", ()) if c["type"] == "Succeeded"), {}
        )
        line = f"{summary.get('reason', 'waiting')}: {summary.get('message', '')}"
        if line != said:
            say(line)
            said = line
        if summary.get("status") in ("True", "False"):
            return status
        if recorder is not None:
            prometheus.discover(kubectl)
        pause.wait(2.0)
    raise shell.Failed(f"the run had not ended after {_DEADLINE_SECONDS:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
