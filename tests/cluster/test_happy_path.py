"""From ``kubectl apply`` to a published model in the S3 server, and what the way costs."""

from __future__ import annotations

from support.cluster import Team, condition, moment, reason

STAGES = ("prepare", "train", "evaluate", "publish")
OVERHEAD_SECONDS = 10.0
"""Per stage, of time not spent inside the stage's process, images present."""


def test_a_run_is_published_and_its_status_tells_the_story(notes: Team) -> None:
    notes.apply()
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
        ["Succeeded", "DataReady", "Trained", "Evaluated", "GatePassed", "Published"], "True"
    )
    assert sorted(notes.jobs()) == sorted(f"notes-{stage}-1" for stage in STAGES)
    assert status["data"]["pairs"] == status["data"]["train"] + status["data"]["holdout"]
    assert status["verdict"]["result"] == "Passed"

    uid = notes.run()["metadata"]["uid"][:8]
    published = notes.objects(f"models/versions/notes-{uid}/")
    names = {key.rpartition("/")[2] for key in published}
    assert {"lineage.json", "report.json", "SHA256SUMS"} <= names
    assert any(name.endswith(".safetensors") for name in names)
    assert status["published"]["uri"].rstrip("/").endswith(f"versions/notes-{uid}")
    assert f"notes-{uid}" in str(notes.read("models/aliases/champion"))

    events = {
        event["reason"]
        for event in notes.kubectl.items("events", notes.name)
        if event["involvedObject"]["kind"] == "AlignmentRun"
    }
    assert "Published" in events
    overhead = seconds_outside_stages(notes)
    print(f"overhead per stage: {overhead / len(STAGES):.1f} s")
    assert overhead / len(STAGES) <= OVERHEAD_SECONDS


def seconds_outside_stages(notes: Team) -> float:
    """From the run's creation to its end, less the time in which a stage's container ran."""
    run = notes.run()
    began = moment(run["metadata"]["creationTimestamp"])
    over = moment(condition(run["status"], "Succeeded")["lastTransitionTime"])
    inside = 0.0
    for pod in notes.pods():
        ran = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        inside += (moment(ran["finishedAt"]) - moment(ran["startedAt"])).total_seconds()
    return (over - began).total_seconds() - inside
