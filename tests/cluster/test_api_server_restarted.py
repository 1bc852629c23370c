"""The API server is killed and comes back; nobody restarts the operator, and the run ends well."""

from __future__ import annotations

import pytest
from tools.cluster import local
from tools.cluster.chart import NAMESPACE

from support.cluster import Team, reason


@pytest.mark.alone
def test_a_run_survives_a_restart_of_the_api_server_in_every_stage(notes: Team) -> None:
    if not local.is_up():
        pytest.skip("only the API server of a cluster from binaries is killed")
    restarts = operator_restarts(notes)
    notes.apply()
    for stage in ("prepare", "train", "evaluate"):
        notes.until_so(f"{stage} has begun", lambda name=f"notes-{stage}-1": name in notes.jobs())
        local.restart_api_server()
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert len(notes.jobs()) == 4
    assert operator_restarts(notes) == restarts


def operator_restarts(notes: Team) -> dict[str, int]:
    pods = notes.kubectl.items("pods", NAMESPACE, "app.kubernetes.io/name=alignment-operator")
    return {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["restartCount"] for p in pods}
