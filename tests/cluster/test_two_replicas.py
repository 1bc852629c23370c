"""Of two replicas one works. It freezes: the other takes over, and the first does nothing more when it wakes up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tools.cluster import chart, local
from tools.cluster.chart import NAMESPACE, RELEASE
from tools.cluster.prepare import Prepared

from support.cluster import Json, Team, moment, reason

TAKEN_OVER_SECONDS = 15.0
pytestmark = pytest.mark.alone


@pytest.fixture
def two(notes: Team, prepared: Prepared) -> Iterator[Team]:
    """Two replicas, both ready, one of them elected."""
    if not local.is_up():
        pytest.skip("only processes of a cluster from binaries can be frozen")
    chart.install(notes.kubectl, prepared.values() | {"replicas": 2})
    try:
        # The one that worked before, without an election, may still be stopping.
        notes.until_so("there are two", lambda: len(replicas(notes)) == 2)
        notes.until_so("one of them leads", lambda: lease(notes).get("holderIdentity") in replicas(notes))
        yield notes
    finally:
        chart.install(notes.kubectl, prepared.values())


def replicas(notes: Team) -> list[str]:
    """Pods of the operator, those that are being stopped included."""
    pods = notes.kubectl.items("pods", NAMESPACE, "app.kubernetes.io/name=alignment-operator")
    return [pod["metadata"]["name"] for pod in pods]


def lease(notes: Team) -> Json:
    found: Json = notes.kubectl.get("lease", RELEASE, NAMESPACE)["spec"]
    return found


def leading(notes: Team, pod: str) -> bool:
    """What a replica says of itself in its metrics."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics"
    lines = notes.kubectl("get", "--raw", path).splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("alignment_operator_leader ")]
    return float(value) == 1.0


@contextmanager
def frozen(notes: Team, pod: str) -> Iterator[None]:
    """Stop the replica's process as it is, in the middle of whatever it does, as a machine does that hangs."""
    status = notes.kubectl.get("pod", pod, NAMESPACE)["status"]
    container = status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    tasks = [line.split() for line in local.ctr("tasks", "ls").splitlines()]
    (process,) = [int(words[1]) for words in tasks if words[0] == container]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_frozen_leader_is_replaced_in_time_and_does_nothing_twice_when_it_wakes_up(two: Team) -> None:
    leader = lease(two)["holderIdentity"]
    with frozen(two, leader):
        last = lease(two)["renewTime"]
        two.apply()
        two.until_so("the other starts the run", lambda: "notes-prepare-1" in two.jobs())
        new = lease(two)
    assert new["holderIdentity"] not in ("", leader)
    silent = (moment(new["acquireTime"]) - moment(last)).total_seconds()
    print(f"taken over after {silent:.1f} s")
    assert silent <= TAKEN_OVER_SECONDS
    two.until_so("the woken one knows", lambda: not leading(two, leader))
    assert leading(two, new["holderIdentity"])

    status = two.until_ended()
    assert reason(status) == "Published", two.story()
    assert sorted(two.jobs()) == [f"notes-{stage}-1" for stage in ("evaluate", "prepare", "publish", "train")]
    assert all(stage.get("failures", 0) == 0 for stage in status["stages"])
    assert lease(two)["holderIdentity"] == new["holderIdentity"]
