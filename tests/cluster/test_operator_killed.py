"""The operator dies at random moments, again and again; the run ends as if it had not."""

from __future__ import annotations

import random
import threading

import pytest
from tools.cluster.chart import NAMESPACE

from support.cluster import Team, ended, reason

KILLS = 12
SELECTOR = "app.kubernetes.io/name=alignment-operator"


@pytest.mark.alone
def test_a_run_survives_the_death_of_its_operator_at_any_moment(notes: Team) -> None:
    rng = random.Random(4)
    notes.apply()
    pause = threading.Event()
    kills = 0
    while kills < KILLS and not ended(notes.status()):
        pause.wait(rng.uniform(0.5, 7.0))
        arguments = ("delete", "pod", "-l", SELECTOR, "--grace-period=0", "--force", "--wait=false")
        notes.kubectl("-n", NAMESPACE, *arguments, check=False)
        kills += 1
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert kills >= 4
    assert sorted(notes.jobs()) == [
        f"notes-{stage}-1" for stage in ("evaluate", "prepare", "publish", "train")
    ]
    assert all(stage.get("failures", 0) == 0 for stage in status["stages"])
