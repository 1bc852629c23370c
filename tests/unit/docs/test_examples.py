"""Every example is a valid run, explained in its first line, listed in the table, and carried out by the operator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.evidence import CriterionEvidence, Evidence
from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import StageRequest, StageResult
from alignment_cli.manifests import load_manifest
from faults.rig import Rig, Scenario, Step
from support import runs
from support.documents import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_one_valid_run_named_like_its_file(path: Path) -> None:
    assert load_manifest(path).metadata.name == path.stem
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        assert {"apiVersion", "kind", "metadata"} <= set(document)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_explains_itself(path: Path) -> None:
    assert re.match(r"# [A-Z].{20,}", path.read_text(encoding="utf-8"))


def test_the_table_lists_every_example_and_no_other() -> None:
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w.-]+\.yaml)\)", table)) == {path.name for path in EXAMPLES}


def test_the_examples_show_what_they_promise() -> None:
    examples = {path.stem: load_manifest(path) for path in EXAMPLES}

    def spec(name: str) -> AlignmentRun:
        return examples[name]

    assert spec("lora-one-gpu").spec.training.lora is not None
    assert spec("full-weights-several-nodes").spec.training.lora is None
    assert spec("full-weights-several-nodes").spec.pods.train.nodes > 1
    assert spec("judge").spec.evaluation.judge.type == "OpenAICompatible"
    assert spec("manual-approval").spec.gate.approval == "Manual"
    assert spec("kueue-queue").spec.pods.queue_name
    assert spec("s3-workload-identity").spec.pods.service_account_name
    assert spec("s3-workload-identity").spec.storage.credentials_secret_ref is None


def as_hoped(request: StageRequest) -> StageResult:
    """What a stage reports when every criterion of the run's own holds."""
    if request.stage is not StageName.EVALUATE or not request.spec.gate.criteria:
        return runs.result(request.stage, request)
    holds = []
    for criterion in request.spec.gate.criteria:
        middle = criterion.limit + (0.15 if criterion.upwards else -0.15)
        holds.append(
            CriterionEvidence(
                criterion=criterion,
                estimate=middle,
                low=middle - 0.05,
                high=middle + 0.05,
                alpha=0.05,
                n=100,
                clusters=100,
            )
        )
    return runs.result(request.stage, request, evidence=Evidence(criteria=tuple(holds)))


async def carried_out(name: str) -> dict[str, Any]:
    """The run as an operator leaves it that works on the example; its Jobs' specs by stage."""
    spec = load_manifest(ROOT / "examples" / f"{name}.yaml").to_wire()["spec"]

    def approve(rig: Rig) -> None:
        decision = {"result": "Approve", "by": "ml-lead", "reason": "read the report"}
        rig.change_spec(gate={**spec["gate"], "decision": decision})

    waits = spec["gate"].get("approval") == "Manual"
    steps = (Step(lambda rig: rig.reason == "AwaitingDecision", approve),) if waits else ()
    rig = await Rig(Scenario(name, spec=spec, steps=steps, answer=as_hoped)).play()
    assert rig.reason == "Published"
    return {job["metadata"]["labels"]["alignment.dev/stage"]: job for job in rig.server.of("jobs")}


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES])
async def test_the_operator_carries_an_example_out(name: str) -> None:
    assert list(await carried_out(name)) == ["prepare", "train", "evaluate", "publish"]


async def test_the_queue_of_an_example_is_on_every_job() -> None:
    jobs = await carried_out("kueue-queue")
    assert {job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] for job in jobs.values()} == {"alignment"}


async def test_the_nodes_of_an_example_are_one_gang() -> None:
    jobs = await carried_out("full-weights-several-nodes")
    assert {stage: job["spec"]["completions"] for stage, job in jobs.items()} == {
        "prepare": 1,
        "train": 2,
        "evaluate": 1,
        "publish": 1,
    }
    assert jobs["train"]["spec"]["completionMode"] == "Indexed"


async def test_the_identity_of_an_example_needs_no_secret() -> None:
    for job in (await carried_out("s3-workload-identity")).values():
        pod = job["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == "alignment-trainer"
        assert "secretKeyRef" not in str(pod)
