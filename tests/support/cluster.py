"""Tests' way to a prepared cluster: a namespace each, a run with real data in it, and waiting with a story on failure."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from tools.cluster import s3, shell
from tools.cluster.kubectl import Kubectl
from tools.cluster.prepare import Prepared

from support.embedded import Project

__all__ = ["Team", "advertise_gpu", "condition", "ended", "moment", "reason", "team", "train_stage"]

Json = dict[str, Any]
_RUNS = "alignmentruns.alignment.dev"


@dataclass(frozen=True)
class Team:
    """A namespace with a bucket of the same name, storage credentials, a base model and data."""

    name: str
    kubectl: Kubectl
    tunnel: s3.Tunnel

    def manifest(self, run: str = "notes", **changes: Any) -> Json:
        """The smallest real run; ``changes`` replace whole sections of its spec."""
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder), f"s3://{self.name}", {})
            document: Json = yaml.safe_load(project.manifest(run, **changes).read_text(encoding="utf-8"))
        document["metadata"]["namespace"] = self.name
        document["spec"]["evaluation"]["generation"]["prompts"] = 24
        document["spec"]["storage"] = {
            "endpoint": s3.ENDPOINT,
            "region": "us-east-1",
            "credentialsSecretRef": {"name": "s3"},
        }
        return document

    def apply(self, run: str = "notes", **changes: Any) -> None:
        """kubectl apply of such a run."""
        self.kubectl.apply(self.manifest(run, **changes))

    def run(self, name: str = "notes") -> Json:
        """The resource as it is now."""
        return self.kubectl.get(_RUNS, name, self.name)

    def status(self, name: str = "notes") -> Json:
        """Its status; empty before the operator has seen it."""
        found: Json = self.run(name).get("status") or {}
        return found

    def patch(self, patch: Json, run: str = "notes") -> None:
        """A merge patch of the run, as the administrator."""
        text = json.dumps(patch)
        self.kubectl("-n", self.name, "patch", _RUNS, run, "--type=merge", "-p", text)

    def jobs(self) -> dict[str, Json]:
        """The Jobs by name."""
        return {job["metadata"]["name"]: job for job in self.kubectl.items("jobs", self.name)}

    def pods(self, stage: str = "") -> list[Json]:
        """The pods, or those of one stage."""
        return self.kubectl.items("pods", self.name, f"alignment.dev/stage={stage}" if stage else "")

    def objects(self, prefix: str = "") -> list[str]:
        """Keys in the bucket."""
        pages = (
            self.tunnel.client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        )
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def read(self, key: str) -> Json:
        """A JSON object of the bucket."""
        loaded: Json = json.loads(self.tunnel.client().get_object(Bucket=self.name, Key=key)["Body"].read())
        return loaded

    def put(self, key: str, text: str) -> None:
        """Write an object of the bucket."""
        self.tunnel.client().put_object(Bucket=self.name, Key=key, Body=text.encode())

    def until(
        self, what: str, ready: Callable[[Json], bool], run: str = "notes", seconds: float = 600
    ) -> Json:
        """Wait until the run's status is so; the status. Fails with the whole story of the namespace."""
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while True:
            try:
                status = self.status(run)
                if ready(status):
                    return status
            except shell.Failed as error:  # the API server may be away: some tests kill it
                status = {"error": str(error)}
            if time.monotonic() > deadline:
                raise AssertionError(f"not after {seconds:.0f} s: {what}\n{self.story(run)}")
            if status.get("error") is None and ended(status) and not ready(status):
                raise AssertionError(f"the run has ended, and not: {what}\n{self.story(run)}")
            pause.wait(0.5)

    def until_ended(self, run: str = "notes", seconds: float = 600) -> Json:
        """Wait until the run has ended, well or not; its status."""
        return self.until("the run has ended", ended, run, seconds)

    def until_so(self, what: str, so: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for anything else in the namespace. Fails with the story."""
        try:
            shell.wait_until(what, seconds, so, pause=0.3)
        except shell.Failed as error:
            raise AssertionError(f"{error}\n{self.story()}") from error

    def story(self, run: str = "notes") -> str:
        """Everything that helps to understand a failure."""
        parts = [
            self.kubectl("-n", self.name, "get", _RUNS, run, "-o", "yaml", check=False),
            self.kubectl("-n", self.name, "get", f"{_RUNS},jobs,pods", "-o", "wide", check=False),
            self.kubectl("-n", self.name, "get", "events", "--sort-by=.lastTimestamp", check=False),
        ]
        for pod in self.pods():
            name = pod["metadata"]["name"]
            parts += [f"--- {name}", self.kubectl("-n", self.name, "logs", name, "--tail=40", check=False)]
        where = ("-n", "alignment-operator", "logs", "deployment/alignment-operator", "--tail=60")
        return "\n".join([*parts, "--- operator", self.kubectl(*where, check=False)])


def ended(status: Json) -> bool:
    """Whether the summary condition is final."""
    return condition(status, "Succeeded").get("status") in ("True", "False")


def condition(status: Json, kind: str) -> Json:
    """One condition, or an empty one."""
    return next((c for c in status.get("conditions", ()) if c["type"] == kind), {})


def reason(status: Json) -> str:
    """Reason of the summary condition."""
    return str(condition(status, "Succeeded").get("reason", ""))


def train_stage(status: Json) -> Json:
    """The train stage's part of the status, or an empty one."""
    return next((stage for stage in status.get("stages", ()) if stage["name"] == "train"), {})


def advertise_gpu(kubectl: Kubectl) -> None:
    """Make the node say that it has GPUs; nothing else about it changes."""
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    parts = ("capacity", "allocatable")
    patch = [{"op": "add", "path": f"/status/{part}/nvidia.com~1gpu", "value": "4"} for part in parts]
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))


def moment(text: str) -> datetime:
    """A time of the API as a datetime."""
    return datetime.fromisoformat(text)


@contextmanager
def team(prepared: Prepared, tunnel: s3.Tunnel, name: str, material: Path) -> Iterator[Team]:
    """Make the namespace and everything in it; the namespace is deleted at the end."""
    kubectl = prepared.commands()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    kubectl.apply(s3.secret(), "-n", name)
    tunnel.upload(material, name)
    try:
        yield Team(name, kubectl, tunnel)
    finally:
        kubectl("delete", "namespace", name, "--wait=false", check=False)
