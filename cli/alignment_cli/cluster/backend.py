"""Runs on a cluster, behind the verbs that both kinds of runs share.

Everything goes through kubectl: the API server judges, and this module only says it in the words of runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from alignment_api.exitcodes import AlignExit
from alignment_api.names import GROUP, LABEL_RUN, LABEL_RUN_UID, LABEL_STAGE, PLURAL, StageName
from alignment_api.run import AlignmentRun
from alignment_cli.backend import readable
from alignment_cli.cluster.kubectl import Kubectl
from alignment_cli.errors import CommandError
from alignment_cli.output import counted, warn

__all__ = ["ClusterBackend"]

_RESOURCE = f"{PLURAL}.{GROUP}"
_ANSWER: Final = "--request-timeout=30s"
"""For the question that a watch asks for hours: kubectl itself waits without end on a connection that is dead."""

MARGIN_SECONDS: Final = 60
"""What deleting may take beyond the grace of the pods: the garbage collector goes from run to Job to pod."""
_TIMED_OUT: Final = "timed out waiting for the condition"


class ClusterBackend:
    """See :class:`alignment_cli.backend.Backend`. namespace, context: as for kubectl; None: kubectl's own."""

    remote = True

    def __init__(self, namespace: str | None, context: str | None) -> None:
        self._kubectl = Kubectl(namespace, context)

    def names(self) -> list[str]:
        """See Backend."""
        listed = self._kubectl("get", _RESOURCE, "-o", "name", "--request-timeout=3s")
        return [line.rpartition("/")[2] for line in listed.split()]

    def list(self, *, everywhere: bool = False) -> tuple[list[AlignmentRun], list[CommandError]]:
        """See Backend."""
        scope = ["--all-namespaces"] if everywhere else []
        listed = self._kubectl(
            "get", _RESOURCE, *scope, "-o", "json", "--sort-by=.metadata.creationTimestamp"
        )
        return readable(_parse, json.loads(listed)["items"])

    def get(self, name: str) -> AlignmentRun:
        """See Backend."""
        return _parse(json.loads(self._kubectl("get", _RESOURCE, name, "-o", "json", _ANSWER)))

    def change(self, name: str, **changes: Any) -> AlignmentRun:
        """See Backend. The API server checks the rules and the admission policy who may decide."""
        spec = {key: value for key, value in changes.items() if key != "decision"}
        if "decision" in changes:
            spec["gate"] = {"decision": changes["decision"]}
        patch = json.dumps({"spec": spec})
        return _parse(
            json.loads(self._kubectl("patch", _RESOURCE, name, "--type=merge", "-p", patch, "-o", "json"))
        )

    def delete(self, name: str, *, settled: bool = False) -> None:
        """See Backend."""
        if not settled:
            self._kubectl("delete", _RESOURCE, name, "--wait=false")
            return
        workers = ("get", "jobs,pods", "-l", f"{LABEL_RUN_UID}={self.get(name).metadata.uid}")
        running = [item for item in json.loads(self._kubectl(*workers, "-o", "json"))["items"] if _runs(item)]
        patience = max((_grace(pod) for pod in running), default=0) + MARGIN_SECONDS
        if running:
            warn(
                f"Waiting for {counted(len(running), 'pod')} of {name} to save and end, {patience} s at most."
            )
        try:
            # In the foreground the run stays until its pods are gone: no new one is started, and this can be asked again.
            self._kubectl("delete", _RESOURCE, name, "--cascade=foreground", f"--timeout={patience}s")
        except CommandError as error:
            if _TIMED_OUT not in error.message:
                raise
        if left := self._kubectl(*workers, "-o", "name").split():
            raise CommandError(
                f"Run {name} is being deleted, but {', '.join(left)} did not go within {patience} s; a pod stays like that "
                "when its node is down. Give the same command again when it is gone.",
                exit_code=AlignExit.OTHER,
            )

    def logs(self, name: str, stage: StageName | None, *, follow: bool, node: int = 0) -> Iterator[str]:
        """See Backend."""
        selector = f"{LABEL_RUN}={name}" + (f",{LABEL_STAGE}={stage}" if stage else "")
        pods = json.loads(self._kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
        pods = [pod for pod in pods if _node(pod) == node]
        if not pods:
            what = f"run {name}" + (f", stage {stage}" if stage else "") + (f", node {node}" if node else "")
            raise CommandError(f"There is no pod of {what}; see {self.command('status', name)}.")
        newest = max(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        options = ["--follow", "--pod-running-timeout=1h"] if follow else []
        yield from self._kubectl.lines("logs", newest["metadata"]["name"], *options)

    def going_on(self, name: str) -> str:
        """See Backend."""
        return f"The operator goes on with it: {self.command('status', name, '--watch')}."

    def command(self, *words: str) -> str:
        """See Backend."""
        return self._kubectl.align(*words)

    def place(self, run: AlignmentRun) -> str:
        """See Backend."""
        context = self._kubectl.context()
        return f"namespace {run.metadata.namespace}" + (f", context {context}" if context else "")

    def user(self) -> str:
        """See Backend: the name by which the API server knows the person."""
        answer = json.loads(self._kubectl("auth", "whoami", "-o", "json"))
        return str(answer["status"]["userInfo"]["username"])


def _runs(item: dict[str, Any]) -> bool:
    """Whether it is a pod that may still write."""
    return item["kind"] == "Pod" and item["status"].get("phase") not in ("Succeeded", "Failed")


def _grace(pod: dict[str, Any]) -> int:
    return int(pod["spec"].get("terminationGracePeriodSeconds", 0))


def _node(pod: dict[str, Any]) -> int:
    """Which pod of several nodes: its completion index; 0 for a Job of one."""
    meta = pod["metadata"]
    known = {**meta.get("annotations", {}), **meta.get("labels", {})}
    return int(known.get("batch.kubernetes.io/job-completion-index", 0))


def _parse(item: dict[str, Any]) -> AlignmentRun:
    try:
        return AlignmentRun.model_validate(item)
    except ValidationError as error:
        fields = ", ".join(".".join(str(part) for part in p["loc"]) for p in error.errors()[:3])
        raise CommandError(
            f"Run {item['metadata']['name']} has fields that this align does not know ({fields}); "
            "install the version that the cluster runs.",
            exit_code=AlignExit.OTHER,
        ) from None
