"""Two pods train together: they find each other by name, and when one is drained both go on from their checkpoint."""

from __future__ import annotations

from support.cluster import Team, reason, train_stage
from support.training import LONG, evict, until_checkpoint

INDEX = "batch.kubernetes.io/job-completion-index"


def test_two_pods_train_as_one_and_when_one_is_drained_both_go_on_without_spending_an_attempt(
    notes: Team,
) -> None:
    notes.apply(training={**LONG, "epochs": 15}, pods={"train": {"nodes": 2}}, backoffLimit=0)
    until_checkpoint(notes)
    assert notes.jobs()["notes-train-1"]["spec"]["completionMode"] == "Indexed"
    ranks = {pod["metadata"]["labels"][INDEX]: pod["metadata"]["name"] for pod in notes.pods("train")}
    assert sorted(ranks) == ["0", "1"]
    evict(notes, ranks["1"])
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    attempts = ("evaluate-1", "prepare-1", "publish-1", "train-1", "train-2")
    assert sorted(notes.jobs()) == [f"notes-{attempt}" for attempt in attempts]
    assert train_stage(status)["preemptions"] == 1
    assert train_stage(status).get("failures", 0) == 0

    (key,) = [key for key in notes.objects("artifacts/") if key.endswith("/training.json")]
    record = notes.read(key)
    assert record["schedule"]["processes"] == 2
    steps = [entry["step"] for entry in record["curve"] if "loss" in entry]
    assert steps == list(range(1, len(steps) + 1)), "steps that nobody did, or that were done twice"

    (service,) = notes.kubectl.items("services", notes.name)  # one for both attempts
    notes.kubectl("-n", notes.name, "delete", "alignmentrun", "notes", "--timeout=60s")
    notes.until_so(
        f"{service['metadata']['name']} goes with its run",
        lambda: not notes.kubectl.items("services", notes.name),
    )
