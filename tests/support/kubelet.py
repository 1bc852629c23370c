"""What the rest of a cluster does with Jobs: pods come, run, end as scripted, and the Job learns of it.

One small change per :meth:`Kubelet.step`, as several controllers would make them one after the other, so that a
test can look between any two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from alignment_api.names import LABEL_ATTEMPT, LABEL_STAGE, REQUEST_ANNOTATION, StageName
from alignment_api.stage import StageFailure, StageRequest, StageResult
from support.apiserver import ApiServer, Json
from support.runs import result

__all__ = ["DISRUPTED", "Kubelet"]

Script = Mapping[str, list[str]]
"""By stage, what becomes of its pods, one after the other: done, drain, stop, delete, lost, hold, or an exit code."""
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
_INDEX = "batch.kubernetes.io/job-completion-index"


class Kubelet:
    """Job controller, scheduler and kubelet in one. evidence: what evaluate reports, by keyword of ``result``."""

    def __init__(
        self,
        server: ApiServer,
        script: Script | None = None,
        *,
        answer: Callable[[StageRequest], StageResult] | None = None,
        ip: str = "10.0.0.1",
    ) -> None:
        self.server = server
        self.script = {stage: list(ends) for stage, ends in (script or {}).items()}
        self.answer = answer or (lambda request: result(request.stage, request))
        self.ip = ip
        self.holding: set[str] = set()
        self.full: set[str] = set()
        """Stages for whose pods there is no room."""
        self._deleted: set[str] = set()
        self._failed: set[str] = set()
        self.runs_of: dict[str, int] = {}

    def step(self) -> bool:
        """Make one change; False when there is nothing to do but wait."""
        return any(self._job(job) for job in self.server.of("jobs")) or self.server.collect_garbage()

    def release(self) -> None:
        """Let pods that hold go on."""
        self.holding.clear()
        self.script = {stage: [e for e in ends if e != "hold"] for stage, ends in self.script.items()}

    # -- one Job --------------------------------------------------------------------------------------

    def _job(self, job: Json) -> bool:
        conditions = (job.get("status") or {}).get("conditions") or []
        if any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions):
            return False
        if "deletionTimestamp" in job["metadata"]:
            return False
        uid = job["metadata"]["uid"]
        pods = [p for p in self.server.of("pods") if p["metadata"]["ownerReferences"][0]["uid"] == uid]
        if job["spec"].get("suspend"):
            return self._evict(pods)
        if (job.get("status") or {}).get("active") is None:
            self._status(job, {"active": job["spec"]["parallelism"], "startTime": self.server.time()})
            return True
        living = [p for p in pods if p["status"].get("phase") not in ("Failed", "Succeeded")]
        if self._remove_deleted(pods) or any(self._pod(job, pod) for pod in living):
            return True
        return self._judge(job, pods, living)

    def _judge(self, job: Json, pods: list[Json], living: list[Json]) -> bool:
        count = job["spec"]["completions"]
        failed = [p for p in pods if p["status"].get("phase") == "Failed"]
        disrupted = [p for p in failed if DISRUPTED in p["status"].get("conditions", ())]
        rule = job["spec"]["podFailurePolicy"]["rules"][0]["action"]
        if disrupted and rule == "FailJob":
            self._end(job, "Failed", "PodFailurePolicy", "Pod matching FailJob rule")
            return True
        if len(failed) > len(disrupted) or job["metadata"]["uid"] in self._failed:
            self._end(job, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
            return True
        done = [p for p in pods if p["status"].get("phase") == "Succeeded"]
        if len(done) == count:
            self._end(job, "Complete", "CompletionsReached", "")
            return True
        if len(living) + len(done) < count and job["metadata"]["labels"][LABEL_STAGE] not in self.full:
            taken = {p["metadata"]["labels"].get(_INDEX) for p in living + done}
            self._create_pod(job, next(i for i in range(count) if str(i) not in taken or count == 1))
            return True
        return False

    def _create_pod(self, job: Json, index: int) -> None:
        template = job["spec"]["template"]
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        if job["spec"]["completionMode"] == "Indexed":
            labels[_INDEX] = str(index)
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        self.server.create(
            "pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "generateName": f"{job['metadata']['name']}-",
                    "namespace": job["metadata"]["namespace"],
                    "labels": labels,
                    "annotations": template["metadata"]["annotations"],
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            },
        )

    # -- one pod --------------------------------------------------------------------------------------

    def _pod(self, job: Json, pod: Json) -> bool:
        name = pod["metadata"]["name"]
        if pod["status"]["phase"] == "Pending":
            state = {"running": {"startedAt": self.server.time()}}
            self._pod_status(
                pod, phase="Running", podIP=self.ip, containerStatuses=[{"name": "stage", "state": state}]
            )
            return True
        if name in self.holding:
            return False
        ends = self.script.get(job["metadata"]["labels"][LABEL_STAGE], [])
        end = ends.pop(0) if ends else "done"
        if end == "hold":
            self.holding.add(name)
            return False
        self._finish(pod, end)
        return True

    def _finish(self, pod: Json, end: str) -> None:
        code = {"done": 0, "lost": 0, "drain": 143, "stop": 143, "delete": 143}.get(end)
        code = int(end) if code is None else code
        terminated: Json = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "OOMKilled" if code == 137 else "Error",
            "startedAt": pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"],
            "finishedAt": self.server.time(),
        }
        if end == "done":
            request = StageRequest.model_validate(
                json.loads(pod["metadata"]["annotations"][REQUEST_ANNOTATION])
            )
            terminated["message"] = self.answer(request).to_termination_message()
        elif code in (64, 65, 75):
            reason = {64: "RequestInvalid", 65: "DataInvalid", 75: "StorageTrouble"}[code]
            terminated["message"] = StageFailure(reason=reason, message="because").to_termination_message()
        if end == "delete":
            self._deleted.add(pod["metadata"]["name"])
        conditions = [DISRUPTED] if end == "drain" else []
        self._pod_status(
            pod,
            phase="Succeeded" if code == 0 else "Failed",
            conditions=conditions,
            containerStatuses=[{"name": "stage", "state": {"terminated": terminated}}],
        )

    def _evict(self, pods: list[Json]) -> bool:
        for pod in pods:
            self.server.remove(("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]))
            return True
        return False

    def _remove_deleted(self, pods: list[Json]) -> bool:
        """A pod that a person deletes is gone before its Job has counted it."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if name in self._deleted and pod["status"]["phase"] == "Failed":
                self._failed.add(pod["metadata"]["ownerReferences"][0]["uid"])
                self.server.remove(("pods", pod["metadata"]["namespace"], name))
                return True
        return False

    # -- writing --------------------------------------------------------------------------------------

    def _pod_status(self, pod: Json, **status: Any) -> None:
        key = ("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.server.change(key, status={**pod["status"], **status})

    def _status(self, job: Json, status: Json) -> None:
        key = ("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
        self.server.change(key, status={**(job.get("status") or {}), **status})

    def _end(self, job: Json, kind: str, reason: str, message: str) -> None:
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": self.server.time(),
        }
        self._status(job, {"active": 0, "conditions": [condition]})


def job_of(server: ApiServer, stage: StageName, attempt: int = 1) -> Json | None:
    """The Job of an attempt, if it is there."""
    wanted = {LABEL_STAGE: str(stage), LABEL_ATTEMPT: str(attempt)}
    return next((j for j in server.of("jobs") if wanted.items() <= j["metadata"]["labels"].items()), None)
