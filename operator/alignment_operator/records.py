"""What the store keeps of objects: only the fields that decisions and metrics read.

A finished run of realistic status takes 10 KiB of JSON and five times that as Python objects; as a summary it
takes about 1 KiB. Runs that go on are kept as their JSON and parsed when they are looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from alignment_api.base import field_path
from alignment_api.names import GROUP, KIND, LABEL_RUN, LABEL_RUN_UID, LABEL_STAGE, read_attempt_name
from alignment_api.run import AlignmentRun
from alignment_operator.core.jobs import CONTAINER
from alignment_operator.errors import UnreadableRun
from alignment_operator.queue import Key
from alignment_operator.summary import RunSummary, run_summary

__all__ = [
    "NOT_STARTED",
    "Identity",
    "JobRecord",
    "PodRecord",
    "RunRecord",
    "job_record",
    "pod_record",
    "run_record",
    "version_number",
]

Json = dict[str, Any]
Identity = tuple[Key, str]
"""A run by its place and its UID: a UID alone can be claimed from any other namespace."""

NOT_STARTED: Final = ("StartError", "ContainerCannotRun")
"""Reasons of a container whose process never ran: its exit code is the runtime's, and so is its message."""
_NO_TIME: Final = "1970-01-01T00:00:00Z"
"""How the kubelet writes the start of a container that has none."""
_PROBLEMS: Final = 3


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run. body: its JSON while it goes on, None once it has finished."""

    key: Key
    uid: str
    version: str
    deleting: bool
    finished: bool
    summary: RunSummary
    body: bytes | None

    @property
    def identity(self) -> Identity:
        """What its children must name."""
        return self.key, self.uid

    def parse(self) -> AlignmentRun:
        """The run as a model. Raises UnreadableRun when a stored run does not fit the contract."""
        assert self.body is not None, "a finished run is only its summary"  # noqa: S101
        return _parsed(self.body)

    def wire(self) -> Json:
        """What is kept of its JSON. Only of a run that goes on."""
        assert self.body is not None, "a finished run is only its summary"  # noqa: S101
        kept: Json = json.loads(self.body)
        return kept


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A Job: one attempt of a stage, by its name. nodes: pods that work together.

    run_uid: empty where it is no attempt of the run that owns it, whatever its labels say.
    """

    key: Key
    uid: str
    version: str
    run: Key
    run_uid: str
    stage: str
    attempt: int
    nodes: int
    suspended: bool
    deleting: bool
    complete: bool
    failed: bool
    reason: str
    message: str
    ended: str | None

    @property
    def owner(self) -> Identity:
        """The run that it is an attempt of."""
        return self.run, self.run_uid

    @property
    def over(self) -> bool:
        """True once it has come to its end."""
        return self.complete or self.failed


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod of a Job. index: of an Indexed Job, else 0; message: its container's last word.

    words: why it does not run yet, as the cluster says it; empty once it runs, or where there is nothing to say.
    starting: a node has it, and its container does not run yet.
    evicted: the kubelet's words, where it removed the pod for what the pod did itself (its disk space used up).
    deletion: when the pod is killed at the latest, once it was told to stop. node: where it runs, if anywhere.
    gone: it is not in the cluster any more; its last word is kept until its Job has come to an end.
    """

    key: Key
    uid: str
    version: str
    run: Key
    run_uid: str
    job_uid: str
    stage: str
    index: int
    phase: str
    ip: str
    words: str
    starting: bool
    disrupted: bool
    evicted: str
    deletion: str | None
    node: str
    running_since: str | None
    ended: str | None
    exit_code: int | None
    exit_reason: str
    message: str
    gone: bool = False

    @property
    def owner(self) -> Identity:
        """The run that its labels name; whether it is a pod of one of its Jobs, job_uid says."""
        return self.run, self.run_uid


@lru_cache(maxsize=32)  # a run is looked at more than once in most of its versions, within a moment
def _parsed(body: bytes) -> AlignmentRun:
    try:
        return AlignmentRun.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        said = [f"{field_path(problem['loc'])}: {problem['msg']}" for problem in problems[:_PROBLEMS]]
        more = len(problems) - len(said)
        raise UnreadableRun("; ".join([*said, *([f"and {more} more"] if more else [])])) from None


def version_number(version: str) -> int:
    """A resourceVersion as a number; Kubernetes guarantees their order since 1.35, and etcd always did."""
    return int(version) if version.isdecimal() else 0


def run_record(raw: Json) -> RunRecord:
    """Keep what matters of a run."""
    metadata = raw["metadata"]
    status = raw.get("status") or {}
    summary = run_summary(raw, status)
    finished = summary.status in ("True", "False")
    kept = {
        name: metadata[name]
        for name in ("name", "namespace", "uid", "generation", "resourceVersion", "creationTimestamp")
        if name in metadata
    }
    wire = {k: raw[k] for k in ("apiVersion", "kind", "spec") if k in raw} | {
        "metadata": kept,
        "status": status,
    }
    return RunRecord(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        deleting="deletionTimestamp" in metadata,
        finished=finished,
        summary=summary,
        body=None if finished else json.dumps(wire, separators=(",", ":")).encode(),
    )


def job_record(raw: Json) -> JobRecord:
    """Keep what matters of a Job."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    end = conditions.get("Complete") or conditions.get("Failed") or {}
    owner = _controller(metadata, GROUP, KIND)
    attempt = read_attempt_name(owner.get("name", ""), metadata["name"])
    return JobRecord(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        run=Key(metadata["namespace"], owner.get("name", "")),
        run_uid=owner.get("uid", "") if attempt is not None else "",
        stage=attempt[0] if attempt is not None else "",
        attempt=attempt[1] if attempt is not None else 0,
        nodes=spec.get("completions") or 1,
        suspended=bool(spec.get("suspend")),
        deleting="deletionTimestamp" in metadata,
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        reason=end.get("reason", ""),
        message=end.get("message", ""),
        ended=end.get("lastTransitionTime"),
    )


def pod_record(raw: Json) -> PodRecord:
    """Keep what matters of a pod."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    # By name: a mesh's or a storage driver's container may come before ours.
    own = (c for c in status.get("containerStatuses") or () if c.get("name") == CONTAINER)
    state = next((c.get("state") or {} for c in own), {})
    ended = state.get("terminated") or {}
    running = state.get("running") or {}
    disrupted = (conditions.get("DisruptionTarget") or {}).get("status") == "True"
    by_itself = status.get("reason") == "Evicted" and not disrupted
    index = labels.get("batch.kubernetes.io/job-completion-index", "0")
    return PodRecord(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        run=Key(metadata["namespace"], labels.get(LABEL_RUN, "")),
        run_uid=labels.get(LABEL_RUN_UID, ""),
        job_uid=_controller(metadata, "batch", "Job").get("uid", ""),
        stage=labels.get(LABEL_STAGE, ""),
        index=int(index) if index.isdecimal() else 0,
        phase=status.get("phase", "Pending"),
        ip=status.get("podIP", ""),
        words=_waiting_words(raw, conditions, state),
        starting=not running and not ended and (conditions.get("PodScheduled") or {}).get("status") == "True",
        disrupted=disrupted,
        evicted=(status.get("message") or "Evicted") if by_itself else "",
        deletion=metadata.get("deletionTimestamp"),
        node=(raw.get("spec") or {}).get("nodeName", ""),
        running_since=running.get("startedAt") or _started(ended),
        ended=ended.get("finishedAt"),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason") or status.get("reason", ""),
        message=ended.get("message", ""),
    )


def _started(ended: Json) -> str | None:
    """When an ended container began to run, if it ever did."""
    since: str | None = ended.get("startedAt")
    return None if since == _NO_TIME or ended.get("reason") in NOT_STARTED else since


def _controller(metadata: Json, group: str, kind: str) -> Json:
    """The owner that controls an object. Labels are copied along with a manifest; a controller's UID is not."""
    owners: list[Json] = metadata.get("ownerReferences") or []
    controllers = (o for o in owners if o.get("controller") and o.get("kind") == kind)
    return next((o for o in controllers if o.get("apiVersion", "").startswith(f"{group}/")), {})


_IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_HARMLESS = ("ContainerCreating", "PodInitializing")


def _waiting_words(raw: Json, conditions: Json, state: Json) -> str:
    """Why a pod does not run; worded so that it stays the same while the cause does."""
    status = raw.get("status") or {}
    if status.get("phase") == "Failed":
        return f"{status.get('reason', '')}: {status.get('message', '')}".strip(": ")
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE_TROUBLE:
        containers = (raw.get("spec") or {}).get("containers") or ()
        image = next((c.get("image", "") for c in containers if c.get("name") == CONTAINER), "")
        return f"The image {image} cannot be pulled; check its name and spec.pods.imagePullSecrets."
    if reason and reason not in _HARMLESS:
        return f"{reason}: {waiting.get('message', '')}".rstrip(": ")
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}".rstrip(": ")
    return ""
