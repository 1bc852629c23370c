"""What the rest of a cluster does with Jobs: pods come, run, end as scripted, and the Job learns of it.

One small change per :meth:`Kubelet.step`, as several controllers would make them one after the other, so that a
test can look between any two. As in a real cluster a pod that was told to stop is removed as soon as it has stopped,
and its Job says how that went only then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from alignment_api.names import LABEL_ATTEMPT, LABEL_STAGE, REQUEST_ANNOTATION, StageName
from alignment_api.stage import StageFailure, StageRequest, StageResult
from support.apiserver import ApiServer, Json
from support.runs import result

__all__ = ["DISRUPTED", "Kubelet"]

Script = Mapping[str, list[str]]
"""By stage, what becomes of its pods, one after the other.

done; lost: ends well, its word is lost; stop: exits 143 by itself; drain, delete: told to stop, with and without a
disruption; an exit code; each of these with ``!``: and the pod is removed at once. hold: runs until released, stops when
told to; linger: as hold, but also takes its time to stop until released; die: its node is gone, and is never heard of again.
"""
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
_INDEX = "batch.kubernetes.io/job-completion-index"


class Kubelet:
    """Job controller, scheduler and kubelet in one. answer: what a stage reports that ends well."""

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
        self.lingering: set[str] = set()
        self.dead: set[str] = set()
        self.full: set[str] = set()
        """Stages for whose pods there is no room."""
        self.ends: dict[str, list[tuple[str, str]]] = {}
        """How pods of a Job ended, in order: index, and done, failed or disrupted. The Job counts them before they go."""

    def step(self) -> bool:
        """Make one change; False when there is nothing to do but wait."""
        return (
            any(self._stop(pod) for pod in self.server.of("pods"))
            or any(self._job(job) for job in self.server.of("jobs"))
            or self.server.collect_garbage()
        )

    def release(self) -> None:
        """Let pods that hold or linger go on."""
        self.holding.clear()
        self.lingering.clear()
        self.script = {stage: [e for e in ends if e != "hold"] for stage, ends in self.script.items()}

    def kill_overdue(self) -> None:
        """Time has passed: pods that took their whole grace to stop are killed."""
        for pod in self.server.of("pods"):
            if pod["metadata"].get("deletionTimestamp", "9") <= self.server.time():
                self.lingering.discard(pod["metadata"]["name"])
                while self._stop(self.server.objects.get(_key(pod), {})):
                    pass

    # -- one Job --------------------------------------------------------------------------------------

    def _job(self, job: Json) -> bool:
        conditions = (job.get("status") or {}).get("conditions") or []
        if any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions):
            return False
        if "deletionTimestamp" in job["metadata"]:
            return False
        uid = job["metadata"]["uid"]
        pods = [p for p in self.server.of("pods") if _owner(p) == uid]
        living = [p for p in pods if p["status"].get("phase") not in ("Failed", "Succeeded")]
        if job["spec"].get("suspend"):
            return any(self.server.tell_to_stop(pod) for pod in living)
        if (job.get("status") or {}).get("active") is None:
            self._status(job, {"active": job["spec"]["parallelism"], "startTime": self.server.time()})
            return True
        ends = self.ends.get(uid, [])
        rule = job["spec"]["podFailurePolicy"]["rules"][0]["action"]
        fatal = [kind for _, kind in ends if kind == "failed" or (kind == "disrupted" and rule == "FailJob")]
        done = {index for index, kind in ends if kind == "done"}
        missing = {str(index) for index in range(job["spec"]["completions"])} - done
        missing -= {p["metadata"]["labels"].get(_INDEX, "0") for p in living}
        if missing and not fatal and job["metadata"]["labels"][LABEL_STAGE] not in self.full:
            self._create_pod(job, min(missing))
            return True
        return any(self._pod(job, pod) for pod in living) or self._judge(job, living, fatal, missing)

    def _judge(self, job: Json, living: list[Json], fatal: list[str], missing: set[str]) -> bool:
        if fatal and living:
            return any(self.server.tell_to_stop(pod) for pod in living)
        if fatal:
            reason, message = {
                "disrupted": ("PodFailurePolicy", "Pod matching FailJob rule"),
                "failed": ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            }[fatal[0]]
            self._end(job, "Failed", reason, message)
            return True
        if not living and not missing:
            self._end(job, "Complete", "CompletionsReached", "")
            return True
        return False

    def _create_pod(self, job: Json, index: str) -> None:
        template = job["spec"]["template"]
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        if job["spec"]["completionMode"] == "Indexed":
            labels[_INDEX] = index
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
                "spec": {**template["spec"], "nodeName": "node1"},
                "status": {"phase": "Pending"},
            },
        )

    # -- one pod --------------------------------------------------------------------------------------

    def _pod(self, job: Json, pod: Json) -> bool:
        name = pod["metadata"]["name"]
        if "deletionTimestamp" in pod["metadata"]:
            return False
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
        if end in ("hold", "linger"):
            self.holding.add(name)
            if end == "linger":
                self.lingering.add(name)
            return False
        if end in ("drain", "delete", "die"):
            if end == "die":
                self.dead.add(name)
            if end != "delete":
                pod = self._pod_status(pod, conditions=[DISRUPTED])
            self.server.tell_to_stop(pod)
            return True
        self._finish(pod, end)
        return True

    def _stop(self, pod: Json) -> bool:
        """One step of a pod that was told to stop: it exits, then it is removed."""
        if not pod:
            return False
        name, phase = pod["metadata"]["name"], pod["status"].get("phase")
        if "deletionTimestamp" not in pod["metadata"] or name in self.lingering | self.dead:
            return False
        if phase == "Running":
            self._finish(pod, "143")
        else:
            self.server.remove(_key(pod))
        return True

    def _finish(self, pod: Json, end: str) -> None:
        removed = end.endswith("!")
        end = end.rstrip("!")
        code = {"done": 0, "lost": 0, "stop": 143}.get(end)
        code = int(end) if code is None else code
        terminated: Json = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "OOMKilled" if code == 137 else "Error",
            "startedAt": pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"],
            "finishedAt": self.server.time(),
        }
        if end == "done":
            request = _request(pod["metadata"]["annotations"][REQUEST_ANNOTATION])
            terminated["message"] = self.answer(request).to_termination_message()
        elif code in (64, 65, 75):
            reason = {64: "RequestInvalid", 65: "DataInvalid", 75: "StorageTrouble"}[code]
            terminated["message"] = StageFailure(reason=reason, message="because").to_termination_message()
        disrupted = DISRUPTED in pod["status"].get("conditions", ())
        kind = "done" if code == 0 else "disrupted" if disrupted else "failed"
        self._count(pod, kind)
        pod = self._pod_status(
            pod,
            phase="Succeeded" if code == 0 else "Failed",
            containerStatuses=[{"name": "stage", "state": {"terminated": terminated}}],
        )
        if removed:
            self.server.tell_to_stop(pod)

    def _count(self, pod: Json, kind: str) -> None:
        """Put a pod's end down for its Job; those of a Job that was suspended or deleted do not count."""
        owner = pod["metadata"]["ownerReferences"][0]["uid"]
        job = next((j for j in self.server.of("jobs") if j["metadata"]["uid"] == owner), None)
        if job is not None and not job["spec"].get("suspend"):
            index = pod["metadata"]["labels"].get(_INDEX, "0")
            self.ends.setdefault(owner, []).append((index, kind))

    # -- writing --------------------------------------------------------------------------------------

    def _pod_status(self, pod: Json, **status: Any) -> Json:
        return self.server.change(_key(pod), status={**pod["status"], **status})

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


@lru_cache(maxsize=64)  # the stories of the fault ladder ask for the same again and again
def _request(text: str) -> StageRequest:
    return StageRequest.model_validate_json(text)


def _key(pod: Json) -> tuple[str, str, str]:
    return "pods", pod["metadata"]["namespace"], pod["metadata"]["name"]


def job_of(server: ApiServer, stage: StageName, attempt: int = 1) -> Json | None:
    """The Job of an attempt, if it is there."""
    wanted = {LABEL_STAGE: str(stage), LABEL_ATTEMPT: str(attempt)}
    return next((j for j in server.of("jobs") if wanted.items() <= j["metadata"]["labels"].items()), None)


def _owner(pod: Json) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{"uid": ""}]
    return str(owners[0]["uid"])
