"""How many processes train together, and which one this is; what contradicts itself is said at the start."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api.names import StageName
from alignment_api.stage import RunIdentity, StageRequest
from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.runtime.crew import Crew, read_crew
from support.runs import UID, run

TWO_NODES = {
    "ALIGNMENT_NODES": "2",
    "ALIGNMENT_NODE_RANK": "1",
    "ALIGNMENT_MASTER_ADDRESS": "notes-train-1-0.notes-train-1.team.svc",
    "ALIGNMENT_MASTER_PORT": "29500",
}


def request(stage: StageName = StageName.TRAIN, *, nodes: int = 1, **training: Any) -> StageRequest:
    spec = run(pods={"train": {"nodes": nodes}}, training=training).spec
    return StageRequest(stage=stage, run=RunIdentity(name="notes", uid=UID), spec=spec)


def test_one_process_drives_one_gpu() -> None:
    assert read_crew(request(), {}, lambda: 8) == Crew(processes=8)
    assert read_crew(request(), {}, lambda: 0) == Crew()
    assert read_crew(request(), {"ALIGNMENT_GPUS": "", "ALIGNMENT_PROCESSES": ""}, lambda: 8) == Crew(
        processes=8
    )
    assert read_crew(request(StageName.EVALUATE), {}, lambda: 8) == Crew()


def test_processes_are_numbered_node_by_node() -> None:
    pid_1 = read_crew(request(nodes=2), TWO_NODES, lambda: 4)
    assert (pid_1.size, pid_1.local, pid_1.leads) == (8, None, False)
    started = TWO_NODES | {"ALIGNMENT_PROCESSES": "4", "ALIGNMENT_LOCAL_RANK": "3"}
    third = read_crew(request(nodes=2), started, nobody)
    assert (third.rank, third.size) == (7, 8)
    first = read_crew(request(nodes=2), TWO_NODES | {"ALIGNMENT_NODE_RANK": "0"}, lambda: 4)
    assert first.leads


@pytest.mark.parametrize(
    ("environment", "gpus", "settings", "says"),
    [
        (TWO_NODES, 4, {"nodes": 3}, "ALIGNMENT_NODES is 2, and spec.pods.train.nodes 3"),
        (TWO_NODES | {"ALIGNMENT_NODE_RANK": "2"}, 4, {"nodes": 2}, "ALIGNMENT_NODE_RANK is 2, of 2 nodes"),
        (TWO_NODES | {"ALIGNMENT_MASTER_PORT": ""}, 4, {"nodes": 2}, "ALIGNMENT_MASTER_PORT are missing"),
        ({"ALIGNMENT_PROCESSES": "two"}, 0, {}, "ALIGNMENT_PROCESSES is 'two'"),
        ({"ALIGNMENT_PROCESSES": "0"}, 0, {}, "ALIGNMENT_PROCESSES is 0, and the least is 1"),
        ({"ALIGNMENT_GPUS": "-1"}, 0, {}, "ALIGNMENT_GPUS is -1, and the least is 0"),
        (
            {"ALIGNMENT_PROCESSES": "2", "ALIGNMENT_GPUS": "4"},
            4,
            {},
            "ALIGNMENT_PROCESSES is 2, and the pod asks for 4 GPUs",
        ),
        ({}, 8, {"pairsPerStep": 4}, "pairsPerStep is 4, fewer than the 8 processes"),
        ({}, 2, {"loss": "aot"}, "loss aot compares the pairs of a step"),
    ],
    ids=[
        "other nodes",
        "no such node",
        "nowhere to meet",
        "no number",
        "no process",
        "less than no GPU",
        "not one per GPU",
        "too few pairs",
        "a loss over all pairs",
    ],
)
def test_a_wrong_world_size_is_refused_with_both_numbers(
    environment: dict[str, str], gpus: int, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read_crew(request(**settings), environment, lambda: gpus)
    assert caught.value.reason == "WorldSizeInvalid"


def test_where_a_variable_says_how_many_nobody_counts() -> None:
    assert read_crew(request(), {"ALIGNMENT_GPUS": "8"}, nobody) == Crew(processes=8, gpus=8)
    assert read_crew(request(), {"ALIGNMENT_GPUS": "0"}, nobody) == Crew(gpus=0)
    two = {"ALIGNMENT_GPUS": "0", "ALIGNMENT_PROCESSES": "2"}
    assert read_crew(request(), two, nobody) == Crew(processes=2, gpus=0)


def nobody() -> int:
    raise AssertionError("torch is loaded in PID 1, where a variable says how many GPUs there are")


def test_a_node_with_other_gpus_than_the_pod_asked_for_is_tried_again() -> None:
    crew = Crew(processes=8, local=3, gpus=8)
    crew.check_gpus(8)
    for seen in (0, 7):
        with pytest.raises(TemporaryError, match=f"asks for 8 GPUs, and torch sees {seen}") as caught:
            crew.check_gpus(seen)
        assert caught.value.reason == "GpusMissing"


def test_processes_that_would_not_have_one_gpu_each_are_refused() -> None:
    Crew(processes=2).check_gpus(0)
    with pytest.raises(RequestError, match="ALIGNMENT_PROCESSES is 2, and 4 GPUs are visible"):
        Crew(processes=2).check_gpus(4)
