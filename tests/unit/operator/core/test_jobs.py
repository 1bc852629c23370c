"""Jobs as they are sent to the cluster: compared with goldens, and held against what must be true of every one.

``pytest tests/unit/operator/core/test_jobs.py --update-goldens`` writes the goldens anew; read the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.names import REQUEST_ANNOTATION, StageName, attempt_name
from alignment_api.run import AlignmentRun
from alignment_api.stage import RunIdentity, StageRequest
from alignment_operator.core.actions import StartStage
from alignment_operator.core.jobs import MINIMUM_TTL_SECONDS, PodDefaults, build_job, build_service
from support.runs import UID, pins, run

DATA = Path(__file__).parents[3] / "data"
PLAIN = PodDefaults(image="registry.example/trainer@sha256:1234")
INSTALLED = PodDefaults(
    image="registry.example/trainer@sha256:1234",
    pull_policy="Always",
    env={"HTTPS_PROXY": "http://proxy:3128"},
    user=1000,
    fs_group=2000,
)


def full() -> AlignmentRun:
    raw = yaml.safe_load((DATA / "crd" / "full.yaml").read_text())
    raw["metadata"] |= {"namespace": "team", "uid": UID}
    return AlignmentRun.model_validate(raw)


def on_claims() -> AlignmentRun:
    return run(
        model={"uri": "pvc://models/base/"},
        data={"sources": [{"uri": "pvc://feedback/*.jsonl"}]},
        publish={"uri": "pvc://released/notes/"},
        artifacts={"uri": "pvc://artifacts/"},
    )


def start(subject: AlignmentRun, stage: StageName, attempt: int = 1) -> StartStage:
    identity = RunIdentity(name=subject.metadata.name, namespace="team", uid=subject.metadata.uid)
    request = StageRequest(
        stage=stage,
        run=identity,
        attempt=attempt,
        spec=subject.spec,
        pins=None if stage is StageName.PREPARE else pins(),
    )
    return StartStage(attempt_name(subject.metadata.name, stage, attempt), request)


CASES: dict[str, tuple[StartStage, PodDefaults]] = {
    "minimal-prepare": (start(run(), StageName.PREPARE), PLAIN),
    "minimal-train": (start(run(), StageName.TRAIN, attempt=3), PLAIN),
    "full-prepare": (start(full(), StageName.PREPARE), INSTALLED),
    "full-train": (start(full(), StageName.TRAIN), INSTALLED),
    "full-evaluate": (start(full(), StageName.EVALUATE), INSTALLED),
    "full-publish": (start(full(), StageName.PUBLISH), INSTALLED),
    "claims-publish": (start(on_claims(), StageName.PUBLISH), INSTALLED),
}


def manifests(case: str) -> list[dict[str, Any]]:
    action, defaults = CASES[case]
    service = build_service(action)
    return [build_job(action, defaults)] + ([service] if service else [])


def pod(case: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifests(case)[0]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_as_recorded(case: str, pytestconfig: pytest.Config) -> None:
    golden = DATA / "jobs" / f"{case}.yaml"
    built = manifests(case)
    for manifest in built:
        if manifest["kind"] == "Job":
            annotations = manifest["spec"]["template"]["metadata"]["annotations"]
            # Its content is the contract's affair, and would hide what changed in the manifest itself.
            annotations[REQUEST_ANNOTATION] = "REQUEST"
    if pytestconfig.getoption("--update-goldens"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(yaml.safe_dump_all(built, sort_keys=True))
    assert built == list(yaml.safe_load_all(golden.read_text()))


@pytest.mark.parametrize("case", CASES)
def test_every_pod_fits_the_restricted_pod_security_standard(case: str) -> None:
    spec = pod(case)
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    allowed = {"downwardAPI", "emptyDir", "configMap", "persistentVolumeClaim"}
    assert all((set(volume) - {"name"}) <= allowed for volume in spec["volumes"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


@pytest.mark.parametrize("case", CASES)
def test_the_pod_carries_its_request_and_every_mount_has_its_volume(case: str) -> None:
    job = manifests(case)[0]
    annotation = job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    request = StageRequest.model_validate(json.loads(annotation))
    assert request.input_digest == CASES[case][0].request.input_digest
    assert request.image == CASES[case][1].image
    spec = pod(case)
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == volumes


def test_a_request_fits_an_annotation_however_much_is_set_on_the_pods() -> None:
    env = [{"name": f"VARIABLE_{number}", "value": "x" * 4096} for number in range(64)]
    stages = {str(stage): {"env": env} for stage in StageName}
    stages["train"] |= {"nodes": 2}
    job = build_job(start(run(pods=stages), StageName.TRAIN), PLAIN)
    annotation = job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    assert len(annotation) < 8 * 1024
    assert StageRequest.model_validate(json.loads(annotation)).spec.pods.train.nodes == 2
    assert len(job["spec"]["template"]["spec"]["containers"][0]["env"]) > 64


def test_a_single_pod_survives_a_drain_within_its_job_and_a_gang_does_not() -> None:
    alone, gang = manifests("minimal-train")[0], manifests("full-train")[0]
    assert alone["spec"]["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    assert gang["spec"]["podFailurePolicy"]["rules"][0]["action"] == "FailJob"
    assert gang["spec"]["completions"] == gang["spec"]["parallelism"] == 2
    assert gang["spec"]["completionMode"] == "Indexed"


def test_a_gang_finds_each_other_through_a_headless_service() -> None:
    job, service = manifests("full-train")
    assert service["spec"]["clusterIP"] == "None"
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    spec = pod("full-train")
    assert spec["subdomain"] == service["metadata"]["name"]
    env = {entry["name"]: entry for entry in spec["containers"][0]["env"]}
    assert env["ALIGNMENT_MASTER_ADDRESS"]["value"] == f"full-train-1-0.{spec['subdomain']}.team.svc"
    assert "fieldRef" in env["ALIGNMENT_NODE_RANK"]["valueFrom"]


def test_all_attempts_of_a_run_share_one_service_that_no_other_run_has() -> None:
    first, second = (build_service(start(full(), StageName.TRAIN, attempt=number)) for number in (1, 2))
    assert first == second
    assert first is not None
    assert first["metadata"]["name"] == "full-12345678"


def test_credentials_are_referred_to_and_never_written_out() -> None:
    env = {entry["name"]: entry for entry in pod("full-evaluate")["containers"][0]["env"]}
    assert env["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "s3"
    assert env["ALIGNMENT_JUDGE_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "judge", "key": "token"}
    assert "ALIGNMENT_JUDGE_TOKEN" not in {e["name"] for e in pod("full-train")["containers"][0]["env"]}


def test_the_run_may_override_the_installations_environment_but_no_name_appears_twice() -> None:
    for case in CASES:
        names = [entry["name"] for entry in pod(case)["containers"][0]["env"]]
        assert len(names) == len(set(names))


def test_claims_are_mounted_where_the_trainer_looks_and_writable_only_where_it_writes() -> None:
    spec = pod("claims-publish")
    env = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    mounts = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"]}
    root = env["ALIGNMENT_PVC_ROOT"]
    assert not mounts[f"{root}/artifacts"].get("readOnly")
    assert not mounts[f"{root}/released"].get("readOnly")
    assert mounts[f"{root}/models"]["readOnly"] is True
    assert mounts[f"{root}/feedback"]["readOnly"] is True


def test_a_finished_job_stays_long_enough_for_its_last_word_to_be_read() -> None:
    action = start(run(ttlSecondsAfterFinished=0), StageName.PREPARE)
    assert build_job(action, PLAIN)["spec"]["ttlSecondsAfterFinished"] == MINIMUM_TTL_SECONDS
