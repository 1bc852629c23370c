"""Somebody with kubectl and ``align``, in an empty folder, and the cluster that they reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.names import LABEL_RUN, LABEL_RUN_UID, LABEL_STAGE, PLURAL, StageName
from alignment_cli.embedded.state import State
from support import runs
from support.apihttp import HttpApi
from support.personapi import PersonApi

__all__ = ["NEEDS_KUBECTL", "SCRIPTS", "Person"]

NEEDS_KUBECTL = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on PATH")
SCRIPTS = Path(sys.executable).parent


class Person:
    """Somebody with kubectl, in an empty folder."""

    def __init__(self, api: HttpApi, server: PersonApi, folder: Path) -> None:
        self.server = server
        self.state = State(folder / ".align")
        self.api = api
        self.folder = folder

    def start(self, *arguments: str, tool: str = "align", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SCRIPTS / tool, *arguments],
            cwd=self.folder,
            env={**os.environ, "KUBECONFIG": str(self.api.kubeconfig), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, tool: str = "align", **environment: str) -> tuple[int, str, str]:
        with self.start(*arguments, tool=tool, **environment) as process:
            out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    def settle(self, namespace: str) -> None:
        """Make it kubectl's own namespace, as ``kubectl config set-context --current`` does."""
        config = yaml.safe_load(self.api.kubeconfig.read_text(encoding="utf-8"))
        config["contexts"][0]["context"]["namespace"] = namespace
        self.api.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")

    def apply(self, name: str, reason: str = "Training", status: str = "Unknown", **more: Any) -> None:
        """A run of the cluster that stands there."""
        manifest = runs.manifest(name, **more.pop("spec", {}))
        manifest["metadata"] = {"name": name, "namespace": "team"}
        condition = {
            "type": "Succeeded",
            "status": status,
            "reason": reason,
            "lastTransitionTime": "2026-01-05T12:00:00Z",
        }
        manifest["status"] = {"conditions": [condition], **more}
        self.api.locked(lambda: self.server.create(PLURAL, manifest))

    def pod(self, name: str, stage: StageName, words: str | None, index: int | None = None) -> None:
        labels = {LABEL_RUN: "notes", LABEL_STAGE: str(stage)}
        if index is not None:
            labels["batch.kubernetes.io/job-completion-index"] = str(index)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "team", "labels": labels},
            "spec": {"containers": [{"name": "stage"}]},
            "status": {"phase": "Running"},
        }
        self.api.locked(lambda: self.server.create("pods", pod))
        if words is not None:
            self.server.logs[name] = words

    def work(self, grace_seconds: int) -> None:
        """A Job of the run ``notes`` with one pod, as operator and Job controller make them."""
        owner = self.run()
        for version, kind, name in (("batch/v1", "Job", "notes-train-1"), ("v1", "Pod", "notes-train-1-a")):
            metadata = {
                "name": name,
                "namespace": "team",
                "labels": {LABEL_RUN: "notes", LABEL_RUN_UID: self.run()["metadata"]["uid"]},
                "ownerReferences": [{"uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}],
            }
            spec = {"terminationGracePeriodSeconds": grace_seconds}
            item = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
            item["status"] = {"phase": "Running"}
            owner = self.api.locked(partial(self.server.create, f"{kind.lower()}s", item))

    def collect_garbage(self) -> None:
        def collect() -> None:
            while self.server.collect_garbage():
                pass

        self.api.locked(collect)

    def run(self, name: str = "notes") -> dict[str, Any]:
        found: dict[str, Any] = self.server.get((PLURAL, "team", name))
        return found
