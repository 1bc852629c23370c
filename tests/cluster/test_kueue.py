"""Kueue decides when a run trains: waiting for quota, preempted, resumed; and what happens while Kueue is down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tools.cluster import chart
from tools.cluster.prepare import Prepared

from alignment_api.names import STAGES
from support import kueue
from support.cluster import Team, advertise_gpu, reason, train_stage
from support.documents import ROOT
from support.training import LONG, QUICK, until_checkpoint

PODS: dict[str, Any] = {"queueName": kueue.QUEUE, "train": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}

ENDURING: dict[str, Any] = {**LONG, "pairsPerStep": 1}
"""A minute of steps: still at work when the other has queued up and the urgent job comes."""


@pytest.fixture
def queued(notes: Team, prepared: Prepared) -> Iterator[Team]:
    """A namespace with a queue of one GPU, and an operator that reads Kueue's reasons."""
    advertise_gpu(notes.kubectl)
    with kueue.installed(notes.kubectl, notes.name):
        chart.install(notes.kubectl, prepared.values() | {"kueue": {"enabled": True}})
        yield notes
    chart.install(notes.kubectl, prepared.values())


@pytest.mark.alone
def test_runs_wait_for_quota_are_preempted_and_resume_and_survive_kueues_absence(
    queued: Team, prepared: Prepared
) -> None:
    queued.apply("first", training=ENDURING, pods=PODS)
    queued.until_so("the first run has the GPU", lambda: bool(queued.pods("train")))
    # While the first one loads its libraries the second one prepares, so it queues up long before the GPU is free.
    queued.kubectl.apply(
        queued.manifest("second", training=QUICK, pods=PODS, publish={"uri": f"s3://{queued.name}/second/"})
    )
    waiting = queued.until(
        "Kueue's own reason shows", lambda s: "insufficient unused quota" in str(s), "second", 240
    )
    assert reason(waiting) == "Queued"

    until_checkpoint(queued)
    queued.kubectl.apply(kueue.urgent_job(queued.name, prepared.trainer))
    preempted = queued.until(
        "the first run is preempted", lambda s: train_stage(s).get("preemptions") == 1, "first", 240
    )
    assert train_stage(preempted).get("failures", 0) == 0

    first, second = queued.until_ended("first", 900), queued.until_ended("second", 900)
    assert reason(first) == "Published", queued.story("first")
    assert reason(second) == "Published", queued.story("second")

    kueue.ready(queued.kubectl, replicas=0)
    queued.kubectl.apply(
        queued.manifest("third", training=QUICK, pods=PODS, publish={"uri": f"s3://{queued.name}/third/"})
    )
    refused = queued.until(
        "the run says that its Job was refused", lambda s: reason(s) == "LaunchRefused", "third", 120
    )
    assert "kueue" in str(refused).lower()
    kueue.ready(queued.kubectl)
    assert reason(queued.until_ended("third", 900)) == "Published", queued.story("third")


@pytest.mark.alone
def test_the_example_with_a_queue_runs_through_it_to_its_verdict(queued: Team) -> None:
    queue, run = yaml.safe_load_all((ROOT / "examples" / "kueue-queue.yaml").read_text())
    queue["metadata"]["namespace"] = queued.name
    queued.kubectl.apply(queue)
    # Of its pods only the sizes are those of a small node.
    pods = run["spec"]["pods"]
    for stage in ("prepare", "train", "evaluate", "publish"):
        pods[stage]["resources"]["limits"] |= {"cpu": "1", "memory": "2Gi"}
    name = run["metadata"]["name"]
    queued.apply(name, training={**QUICK, **run["spec"]["training"]}, pods=pods)

    assert reason(queued.until_ended(name)) == "Published", queued.story(name)
    admitted = queued.kubectl.items("workloads.kueue.x-k8s.io", queued.name)
    assert {workload["spec"]["queueName"] for workload in admitted} == {queue["metadata"]["name"]}
    assert len(admitted) == len(STAGES)
    assert all(workload["status"]["admission"]["clusterQueue"] == "gpus" for workload in admitted)
