"""The operator works with exactly the rights of the chart, and its images run as anybody."""

from __future__ import annotations

import json
import re

import pytest
from tools.cluster.chart import NAMESPACE, RELEASE
from tools.cluster.prepare import Prepared

from support.cluster import Team, reason

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
METRICS = f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}-metrics:8080/proxy/metrics"
GRANTED = [
    "list alignmentruns.alignment.dev",
    "patch alignmentruns.alignment.dev/status",
    "create jobs.batch",
    "delete jobs.batch",
    "watch pods",
    "create services",
    "create events",
]
WITHHELD = [
    "get secrets",
    "list secrets",
    "create pods/exec",
    "create pods",
    "delete pods",
    "get pods/log",
    "get configmaps",
    "create configmaps",
    "patch jobs.batch",
    "create alignmentruns.alignment.dev",
    "update alignmentruns.alignment.dev",
    "delete alignmentruns.alignment.dev",
    "get services",
    "list namespaces",
    "list customresourcedefinitions.apiextensions.k8s.io",
    "impersonate users",
]


@pytest.mark.parametrize("right", GRANTED)
def test_the_operator_may(prepared: Prepared, right: str) -> None:
    assert allowed(prepared, right) == "yes"


@pytest.mark.parametrize("right", WITHHELD)
def test_the_operator_may_not(prepared: Prepared, right: str) -> None:
    assert allowed(prepared, right) == "no"


def allowed(prepared: Prepared, right: str) -> str:
    verb, resource = right.split()
    resource, _, part = resource.partition("/")
    subresource = [f"--subresource={part}"] if part else []
    asked = ("auth", "can-i", verb, resource, *subresource, "-n", "default", f"--as={ACCOUNT}")
    return prepared.commands()(*asked, check=False).strip()


@pytest.mark.alone
def test_no_request_of_the_operator_is_forbidden_in_a_whole_run(notes: Team) -> None:
    # Another test may have killed the operator just now.
    notes.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
    # Others' namespaces are going away: creating an Event in one of these is forbidden for everybody.
    earlier = forbidden(notes)
    notes.apply()
    assert reason(notes.until_ended()) == "Published", notes.story()
    assert forbidden(notes) == earlier
    assert 'resource="jobs",verb="create"' in notes.kubectl("get", "--raw", METRICS)


def forbidden(notes: Team) -> list[str]:
    """The operator's count of requests that were answered with 403."""
    lines = notes.kubectl("get", "--raw", METRICS).splitlines()
    return [line for line in lines if re.match(r'alignment_operator_api_requests_total\{.*code="403"', line)]


@pytest.mark.parametrize(
    ("image", "program"),
    [
        (
            "operator",
            "import getpass, kopf, alignment_operator.main as m; print(getpass.getuser(), m.__name__)",
        ),
        (
            "trainer",
            "import getpass, torch, transformers, peft, trl; from alignment_trainer.main import main; print(getpass.getuser())",
        ),
    ],
)
def test_an_image_runs_under_any_user_with_a_read_only_root(
    notes: Team, prepared: Prepared, image: str, program: str
) -> None:
    notes.kubectl.apply(stranger(notes.name, getattr(prepared, image), program))
    notes.until_so("the program has ended", lambda: phase(notes) in ("Succeeded", "Failed"), seconds=240)
    assert phase(notes) == "Succeeded", notes.story()


def phase(notes: Team) -> str:
    return str(notes.kubectl.get("pod", "stranger", notes.name)["status"].get("phase"))


def stranger(namespace: str, image: str, program: str) -> str:
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  an emptyDir
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsUser": 1000650000,
                "runAsGroup": 0,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    return json.dumps(pod)
