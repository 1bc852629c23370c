"""`make demo-cluster`: install everything, apply a real run with simulated data, watch it to its verdict."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import yaml

from alignment_cli.demo.setup import Demo, lay_out
from tools.cluster import binaries, paths, s3, shell
from tools.cluster.kubectl import Kubectl
from tools.cluster.prepare import prepare, say
from tools.cluster.providers import choose

__all__ = ["main"]

_NAMESPACE = "demo"
_BUCKET = "demo"
_DEADLINE_SECONDS = 3600.0


def main() -> int:
    """0 when the run ended with a verdict."""
    try:
        return _demo()
    except (shell.Failed, binaries.Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _demo() -> int:
    kubectl = prepare(choose()).commands()
    say("a base model and simulated edits (a minute or two the first time)")
    settings = Demo(folder=paths.cache() / "demo")
    lay_out(settings, _tell)
    tunnel = s3.Tunnel(kubectl)
    tunnel.upload(settings.base, _BUCKET, "base/")
    tunnel.upload(settings.folder / "feedback", _BUCKET, "feedback/")
    tunnel.close()
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
    kubectl.apply(s3.secret(), "-n", _NAMESPACE)
    run = _manifest(settings)
    name = run["metadata"]["name"]
    kubectl("-n", _NAMESPACE, "delete", "alignmentrun", name, "--ignore-not-found", "--cascade=foreground")
    say(f"kubectl -n {_NAMESPACE} apply -f run.yaml")
    kubectl.apply(run, "-n", _NAMESPACE)
    status = _watch(kubectl, name)
    print(yaml.safe_dump({"status": status}, sort_keys=False))
    say(
        "look around: "
        + " ".join(["kubectl", *kubectl.where(), "-n", _NAMESPACE, "get", "alignmentruns,jobs,pods,events"])
    )
    return 0 if status.get("verdict") else 1


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
    return run


def _watch(kubectl: Kubectl, name: str) -> dict[str, Any]:
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
        pause.wait(2.0)
    raise shell.Failed(f"the run had not ended after {_DEADLINE_SECONDS:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
