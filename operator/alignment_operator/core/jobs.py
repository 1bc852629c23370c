"""From a stage request to the Job that carries it out. Pure: the same request gives the same manifest.

One Job is one attempt: ``backoffLimit: 0``, because attempts belong to the plan. A single pod that is drained or
preempted is replaced by the Job itself (``Ignore``) and goes on from its checkpoint. Several pods that train
together are useless without one of them, so there the Job fails (``FailJob``) and the plan starts the gang anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alignment_api.names import (
    API_VERSION,
    KIND,
    LABEL_ATTEMPT,
    LABEL_RUN,
    LABEL_RUN_UID,
    LABEL_STAGE,
    REQUEST_ANNOTATION,
    StageName,
    version_name,
)
from alignment_api.spec.evaluation import EvaluationSpec
from alignment_api.spec.pods import StagePod, TrainPod
from alignment_api.stage import StageRequest
from alignment_operator.core.actions import StartStage

__all__ = ["CONTAINER", "PROGRESS_PORT", "PodDefaults", "build_job", "build_service"]

Json = dict[str, Any]
CONTAINER = "stage"
PROGRESS_PORT = 8081
RENDEZVOUS_PORT = 29500
MINIMUM_TTL_SECONDS = 600
"""A finished Job stays at least so long: its last word must be read first, also by an operator that was down."""
GRACE_SECONDS = {StageName.TRAIN: 300}
"""Time between SIGTERM and SIGKILL: to save and upload a checkpoint."""
DEFAULT_GRACE_SECONDS = 60
DEADLINE_MARGIN_SECONDS = 600
"""The plan ends a run at its deadline; a pod ends itself so much later, in case no operator is there to do it."""
_SHARED_MEMORY = {StageName.TRAIN: "1Gi"}
_DEFAULT_SHARED_MEMORY = "64Mi"
_CLAIMS = "/mnt/claims"
_REQUEST_FOLDER = "/etc/alignment/request"
_CA_FOLDER = "/etc/alignment/ca"
_SCRATCH = "/scratch"


@dataclass(frozen=True, slots=True)
class PodDefaults:
    """What the installation decides for all stage pods. user, fs_group: None leaves them to image and cluster."""

    image: str
    pull_policy: str = "IfNotPresent"
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    fs_group: int | None = None


def build_job(action: StartStage, defaults: PodDefaults) -> Json:
    """The Job of one attempt, owned by its run."""
    request = action.request.model_copy(update={"image": defaults.image})
    annotation = json.dumps(request.for_process().to_wire(), separators=(",", ":"))
    pods = request.spec.pods
    nodes = _nodes(request)
    labels = _labels(request)
    queue = {"kueue.x-k8s.io/queue-name": pods.queue_name} if pods.queue_name else {}
    spec: Json = {
        "backoffLimit": 0,
        "completions": nodes,
        "parallelism": nodes,
        "completionMode": "Indexed" if nodes > 1 else "NonIndexed",
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob" if nodes > 1 else "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
        "ttlSecondsAfterFinished": max(MINIMUM_TTL_SECONDS, request.spec.ttl_seconds_after_finished),
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {REQUEST_ANNOTATION: annotation},
            },
            "spec": _pod(action.name, request, defaults),
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(action.name, request, labels | queue),
        "spec": spec,
    }


def build_service(action: StartStage) -> Json | None:
    """The headless Service by which pods that train together find each other; None where there is only one pod.

    One for all attempts of a run, so that they leave no more than it behind; its name holds the run's UID, so that
    nobody else's can be taken for it.
    """
    request = action.request
    if _nodes(request) == 1:
        return None
    labels = _labels(request)
    del labels[LABEL_ATTEMPT]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(_service_name(request), request, labels),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {name: labels[name] for name in (LABEL_RUN_UID, LABEL_STAGE)},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def _service_name(request: StageRequest) -> str:
    return version_name(request.run.name, request.run.uid)


def _nodes(request: StageRequest) -> int:
    settings = request.spec.pods.of(request.stage)
    return settings.nodes if isinstance(settings, TrainPod) else 1


def _labels(request: StageRequest) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": "alignment-operator",
        LABEL_RUN: request.run.name,
        LABEL_RUN_UID: request.run.uid,
        LABEL_STAGE: str(request.stage),
        LABEL_ATTEMPT: str(request.attempt),
    }


def _metadata(name: str, request: StageRequest, labels: dict[str, str]) -> Json:
    return {
        "name": name,
        "namespace": request.run.namespace,
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": request.run.name,
                "uid": request.run.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _pod(name: str, request: StageRequest, defaults: PodDefaults) -> Json:
    pods, settings = request.spec.pods, request.spec.pods.of(request.stage)
    security: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if defaults.user is not None:
        security |= {"runAsUser": defaults.user, "runAsGroup": defaults.user}
    if defaults.fs_group is not None:
        security |= {"fsGroup": defaults.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    volumes, mounts = _volumes(request, settings)
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS.get(request.stage, DEFAULT_GRACE_SECONDS),
        "activeDeadlineSeconds": request.spec.active_deadline_seconds + DEADLINE_MARGIN_SECONDS,
        "securityContext": security,
        "containers": [_container(name, request, settings, defaults, mounts)],
        "volumes": volumes,
    }
    if pods.service_account_name:
        pod["serviceAccountName"] = pods.service_account_name
    if pods.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret.name} for secret in pods.image_pull_secrets]
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        pod["tolerations"] = [toleration.to_wire() for toleration in settings.tolerations]
    if _nodes(request) > 1:
        pod["subdomain"] = _service_name(request)
    return pod


def _container(
    name: str, request: StageRequest, settings: StagePod, defaults: PodDefaults, mounts: list[Json]
) -> Json:
    container: Json = {
        "name": CONTAINER,
        "image": defaults.image,
        "imagePullPolicy": defaults.pull_policy,
        "command": ["alignment-trainer"],
        "args": [str(request.stage), "--request", f"{_REQUEST_FOLDER}/request.json"],
        "env": _environment(name, request, settings, defaults),
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "resources": _resources(settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }
    return container


def _gpus(settings: StagePod) -> int:
    """Whole GPUs that a pod asks for, of whatever maker."""
    return sum(
        int(value)
        for name, value in settings.resources.limits.items()
        if name.endswith("/gpu") and str(value).isdigit()
    )


def _resources(settings: StagePod) -> Json:
    limits = {name: str(value) for name, value in settings.resources.limits.items()}
    requests = {name: str(value) for name, value in settings.resources.requests.items()}
    return {key: value for key, value in (("limits", limits), ("requests", requests)) if value}


def _environment(name: str, request: StageRequest, settings: StagePod, defaults: PodDefaults) -> list[Json]:
    """Ours first, then the installation's, the run's, last the secret's: a later entry of one name wins."""
    values: dict[str, str] = {
        "USER": "alignment",
        "HOME": _SCRATCH,
        "TMPDIR": "/tmp",  # noqa: S108  an emptyDir of the pod
        "HF_HOME": f"{_SCRATCH}/huggingface",
        "TRITON_CACHE_DIR": f"{_SCRATCH}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{_SCRATCH}/inductor",
        "ALIGNMENT_SCRATCH": _SCRATCH,
        "ALIGNMENT_PVC_ROOT": _CLAIMS,
        "ALIGNMENT_TERMINATION_LOG": "/dev/termination-log",
        "ALIGNMENT_PROGRESS_ADDRESS": f":{PROGRESS_PORT}",
    }
    storage = request.spec.storage
    if storage.ca_bundle_ref is not None:
        bundle = f"{_CA_FOLDER}/{storage.ca_bundle_ref.key}"
        values |= {"AWS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
    nodes = _nodes(request)
    if nodes > 1:
        values |= {
            "ALIGNMENT_NODES": str(nodes),
            "ALIGNMENT_MASTER_ADDRESS": f"{name}-0.{_service_name(request)}.{request.run.namespace}.svc",
            "ALIGNMENT_MASTER_PORT": str(RENDEZVOUS_PORT),
        }
    if gpus := _gpus(settings) if request.stage is StageName.TRAIN else 0:
        values["ALIGNMENT_GPUS"] = str(gpus)  # the trainer refuses a node that shows others
    values |= dict(defaults.env) | {variable.name: variable.value for variable in settings.env}
    entries: list[Json] = [{"name": key, "value": value} for key, value in values.items()]
    if nodes > 1:
        index = {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}
        entries.append({"name": "ALIGNMENT_NODE_RANK", "valueFrom": {"fieldRef": index}})
    return entries + _secrets(request)


def _secrets(request: StageRequest) -> list[Json]:
    entries: list[Json] = []
    credentials = request.spec.storage.credentials_secret_ref
    if credentials is not None:
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            optional = {"optional": True} if key == "AWS_SESSION_TOKEN" else {}
            reference = {"secretKeyRef": {"name": credentials.name, "key": key, **optional}}
            entries.append({"name": key, "valueFrom": reference})
    judge = request.spec.evaluation.judge.secret_ref if request.stage is StageName.EVALUATE else None
    if judge is not None:
        reference = {"secretKeyRef": {"name": judge.name, "key": judge.key}}
        entries.append({"name": "ALIGNMENT_JUDGE_TOKEN", "valueFrom": reference})
    return entries


def _volumes(request: StageRequest, settings: StagePod) -> tuple[list[Json], list[Json]]:
    shared = settings.shared_memory or _SHARED_MEMORY.get(request.stage, _DEFAULT_SHARED_MEMORY)
    scratch: Json = {"sizeLimit": str(settings.scratch)} if settings.scratch is not None else {}
    field_path = {"fieldPath": f"metadata.annotations['{REQUEST_ANNOTATION}']"}
    volumes: list[Json] = [
        {"name": "request", "downwardAPI": {"items": [{"path": "request.json", "fieldRef": field_path}]}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(shared)}},
        {"name": "scratch", "emptyDir": scratch},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts: list[Json] = [
        {"name": "request", "mountPath": _REQUEST_FOLDER, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  where libraries look for shared memory
        {"name": "scratch", "mountPath": _SCRATCH},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  an emptyDir of the pod
    ]
    bundle = request.spec.storage.ca_bundle_ref
    if bundle is not None:
        items = [{"key": bundle.key, "path": bundle.key}]
        volumes.append({"name": "ca", "configMap": {"name": bundle.name, "items": items}})
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    written = _claims([request.spec.artifacts.uri, request.spec.publish.uri])
    for number, claim in enumerate(_claims(_uris(request))):
        read_only = {} if claim in written else {"readOnly": True}
        source = {"persistentVolumeClaim": {"claimName": claim, **read_only}}
        volumes.append({"name": f"claim-{number}", **source})
        mounts.append({"name": f"claim-{number}", "mountPath": f"{_CLAIMS}/{claim}", **read_only})
    return volumes, mounts


def _uris(request: StageRequest) -> list[str]:
    spec = request.spec
    uris = [spec.model.uri, spec.artifacts.uri, spec.publish.uri]
    uris += [source.uri for source in spec.data.sources] + [item.uri for item in spec.data.exclusions]
    uris += _evaluation_uris(spec.evaluation)
    if request.pins is not None:
        pinned = (request.pins.model, request.pins.champion, request.pins.judge)
        uris += [pin.uri for pin in pinned if pin is not None]
    return uris


def _evaluation_uris(evaluation: EvaluationSpec) -> list[str]:
    uris = [item.uri for item in (*evaluation.anchors, *evaluation.refusals)]
    if evaluation.champion is not None:
        uris.append(evaluation.champion.uri)
    if evaluation.judge.uri is not None:
        uris.append(evaluation.judge.uri)
    return uris


def _claims(uris: list[str]) -> list[str]:
    """Names of the claims that URIs of the form pvc://claim/path speak of, sorted."""
    return sorted({uri.removeprefix("pvc://").split("/", 1)[0] for uri in uris if uri.startswith("pvc://")})
