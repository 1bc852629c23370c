"""Memory that is too small, and GPUs that are there or are not."""

from __future__ import annotations

import pytest

from support.cluster import Team, advertise_gpu, reason


def train_with(**resources: str) -> dict[str, object]:
    return {"train": {"resources": {"limits": dict(resources)}}}


def test_a_pod_out_of_memory_is_tried_again_then_the_run_says_what_to_do(notes: Team) -> None:
    notes.apply(pods=train_with(memory="200Mi"), backoffLimit=1)
    status = notes.until_ended()
    assert reason(status) == "StageFailed", notes.story()
    assert status["lastFailure"]["exitCode"] == 137
    assert "memory" in status["lastFailure"]["message"]
    assert sorted(notes.jobs()) == ["notes-prepare-1", "notes-train-1", "notes-train-2"]


@pytest.fixture
def gpu(notes: Team) -> Team:
    advertise_gpu(notes.kubectl)
    return notes


def test_a_run_that_asks_for_a_gpu_trains_on_a_node_that_has_one(gpu: Team) -> None:
    gpu.apply(
        pods={
            **train_with(**{"nvidia.com/gpu": "1"}),
            "evaluate": train_with(**{"nvidia.com/gpu": "1"})["train"],
        }
    )
    status = gpu.until_ended()
    assert reason(status) == "Published", gpu.story()
    (pod,) = gpu.pods("train")
    assert pod["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] == "1"


def test_a_run_that_asks_for_what_no_node_has_waits_and_says_so_in_the_schedulers_words(notes: Team) -> None:
    notes.apply(pods=train_with(**{"amd.com/gpu": "1"}))
    status = notes.until(
        "the status has the scheduler's words", lambda s: "Insufficient amd.com/gpu" in str(s), seconds=240
    )
    assert reason(status) == "Queued", notes.story()
