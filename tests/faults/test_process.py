"""A real operator process over HTTP: what it does to the cluster, and what it survives."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from alignment_api.names import LABEL_RUN
from support.apihttp import HttpApi, serving_api
from support.apiserver import ApiServer, Json
from support.kubelet import Kubelet
from support.process import LIST_EXPIRED, OperatorProcess
from support.runs import manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
RIGHTS = {
    "alignmentruns": {"get", "list"},
    "alignmentruns/status": {"patch"},
    "jobs": {"get", "list", "create", "delete"},
    "pods": {"list"},
    "services": {"create"},
    "events": {"list", "create"},
    "leases": {"get", "create", "update"},
}
"""What the gateway's docstring lists; watches are not counted as requests here."""


@contextmanager
def cluster(folder: Path) -> Iterator[HttpApi]:
    """An API server with a kubelet that never rests."""
    server = ApiServer()
    with serving_api(server, folder) as api:
        kubelet, ended = Kubelet(server), threading.Event()

        def live() -> None:
            while not ended.wait(0.005):
                api.locked(kubelet.step)

        life = threading.Thread(target=live, daemon=True)
        life.start()
        try:
            yield api
        finally:
            ended.set()
            life.join(30)


def create(api: HttpApi, name: str = "notes", namespace: str = "team") -> None:
    raw = manifest(name)
    del raw["metadata"]["uid"]
    raw["metadata"]["namespace"] = namespace
    api.locked(lambda: api.server.create("alignmentruns", raw))


def reason(api: HttpApi, name: str = "notes", namespace: str = "team") -> str:
    """To be read in the server's thread."""
    raw: Json = api.server.objects[("alignmentruns", namespace, name)]
    conditions = (raw.get("status") or {}).get("conditions") or []
    return next((c["reason"] for c in conditions if c["type"] == "Succeeded"), "")


def published(api: HttpApi, name: str = "notes") -> float:
    """Wait for it; how many seconds that took."""
    return api.until(lambda: reason(api, name) == "Published")


def led_by(api: HttpApi, name: str) -> None:
    """Wait until the lease is held by this replica."""
    api.until(lambda: any(lease["spec"]["holderIdentity"] == name for lease in api.server.of("leases")))


def verb(method: str, path: str) -> tuple[str, str]:
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    parts = parts[2:] if parts[0] == "namespaces" else parts
    resource = f"{parts[0]}/{parts[2]}" if len(parts) > 2 else parts[0]
    named = len(parts) > 1
    verbs = {
        "GET": "get" if named else "list",
        "POST": "create",
        "PUT": "update",
        "PATCH": "patch",
        "DELETE": "delete",
    }
    return resource, verbs[method]


def test_a_run_is_published_with_no_more_than_the_listed_rights_and_no_mark_left_on_it(
    tmp_path: Path,
) -> None:
    with (
        cluster(tmp_path) as api,
        OperatorProcess(api.kubeconfig, tmp_path, leader_election="true") as operator,
    ):
        operator.wait_ready()
        create(api)
        published(api)
        metadata: Json = api.server.objects[("alignmentruns", "team", "notes")]["metadata"]
        assert "finalizers" not in metadata
        assert "annotations" not in metadata
        used = {verb(method, path) for method, path in api.server.requests}
        assert {(r, v) for r, v in used if v not in RIGHTS.get(r, ())} == set()
        api.until(lambda: "Published" in {event["action"] for event in api.server.of("events")})
        # An operator that starts anew finds everything as it should be.
        writes = [entry for entry in api.server.requests if entry[0] != "GET"]
        with OperatorProcess(api.kubeconfig, tmp_path, "second") as second:
            second.wait_for_value("alignment_operator_reconcile_duration_seconds_count", 1.0)
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(20) == 0, second.log.read_text()
            later = [e for e in api.server.requests if e[0] != "GET" and "leases" not in e[1]]
            assert len(later) == len([e for e in writes if "leases" not in e[1]])


def test_it_waits_for_the_resource_to_be_installed_and_for_an_api_server_that_is_away(tmp_path: Path) -> None:
    with cluster(tmp_path) as api, OperatorProcess(api.kubeconfig, tmp_path) as operator:
        answer, installed = api.answer, threading.Event()
        refused: list[str] = []

        async def without(request: web.Request) -> web.StreamResponse:
            if "alignmentruns" in request.path and not installed.is_set():
                return web.json_response({"kind": "Status", "code": 404, "message": "not found"}, status=404)
            if api.down:
                refused.append(request.path.rpartition("/")[2])
            return await answer(request)

        api.intercept = without
        operator.wait_for("/readyz", 503)
        assert operator.get("/healthz")[0] == 200
        installed.set()
        operator.wait_ready()
        create(api, "before")
        published(api, "before")
        api.down = True
        api.until(lambda: all(refused.count(watched) >= 2 for watched in ("alignmentruns", "jobs", "pods")))
        create(api, "meanwhile")
        api.down = False
        published(api, "meanwhile")
        assert operator.process.poll() is None


def test_watches_that_expire_begin_anew(tmp_path: Path) -> None:
    with cluster(tmp_path) as api, OperatorProcess(api.kubeconfig, tmp_path) as operator:
        operator.wait_ready()
        for number in range(3):
            create(api, f"run-{number}")
            published(api, f"run-{number}")
            api.locked(api.server.forget_history)
        assert operator.process.poll() is None


def test_a_list_of_the_watches_that_expires_between_its_pages_ends_the_process_for_the_next_to_begin(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path) as api:
        for number in range(250):
            api.locked(partial(api.server.create, "pods", _foreign_pod(number)))
        answer, expired = api.answer, threading.Event()

        async def expiring(request: web.Request) -> web.StreamResponse:
            by_watches = request.headers["User-Agent"].startswith("kopf/")
            if by_watches and "continue" in request.query and not expired.is_set():
                expired.set()
                gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                return web.json_response(gone, status=410)
            return await answer(request)

        api.intercept = expiring
        with OperatorProcess(api.kubeconfig, tmp_path) as first:
            assert first.process.wait(60) == 1, first.log.read_text()
            assert expired.is_set()
            assert LIST_EXPIRED.search(first.log.read_text())
        with OperatorProcess(api.kubeconfig, tmp_path, "second") as second:
            second.wait_ready()
            create(api)
            published(api)
            assert second.process.poll() is None


def _foreign_pod(number: int) -> Json:
    metadata = {"name": f"pod-{number}", "namespace": "team", "labels": {LABEL_RUN: "foreign"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": {}}


def test_only_the_listed_namespaces_are_looked_at(tmp_path: Path) -> None:
    with cluster(tmp_path) as api, OperatorProcess(api.kubeconfig, tmp_path, namespaces="team") as operator:
        operator.wait_ready()
        create(api, "foreign", "elsewhere")
        create(api)
        published(api)
        assert api.locked(lambda: reason(api, "foreign", "elsewhere")) == ""
        outside = [path for _, path in api.server.requests if not re.search("/namespaces/team/", path)]
        assert outside == []


def test_a_namespace_that_is_gone_stops_no_other_and_is_taken_up_when_it_is_back(tmp_path: Path) -> None:
    with (
        cluster(tmp_path) as api,
        OperatorProcess(api.kubeconfig, tmp_path, namespaces="gone,team") as operator,
    ):
        answer, back = api.answer, threading.Event()

        async def without(request: web.Request) -> web.StreamResponse:
            if "/namespaces/gone/" in request.path and not back.is_set():
                refusal = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "forbidden"}
                return web.json_response(refusal, status=403)
            return await answer(request)

        api.intercept = without
        operator.wait_ready()
        create(api)
        create(api, namespace="gone")
        published(api)
        assert operator.value("alignment_operator_unlisted_namespaces") == 1.0
        back.set()
        api.until(lambda: reason(api, namespace="gone") == "Published")
        assert operator.process.poll() is None
        assert "namespace gone is left out until it can be listed" in operator.log.read_text()


def test_a_second_replica_takes_over_within_fifteen_seconds_of_a_leaders_death(tmp_path: Path) -> None:
    with (
        cluster(tmp_path) as api,
        OperatorProcess(api.kubeconfig, tmp_path, "first", leader_election="true") as first,
    ):
        led_by(api, "first")
        with OperatorProcess(api.kubeconfig, tmp_path, "second", leader_election="true") as second:
            second.wait_ready()
            # It knows of the run and leaves telling of it, and of the queue that it does not work on, to the leader.
            create(api, "earlier")
            published(api, "earlier")
            standby = second.get("/metrics")[1]
            assert "alignment_operator_leader 0.0" in standby
            assert "alignment_operator_workqueue_depth 0.0" in standby
            assert "alignment_operator_workqueue_oldest_seconds 0.0" in standby
            assert "alignment_runs{" not in standby
            first.process.kill()
            create(api)
            assert published(api) < 15.0
            assert second.value("alignment_operator_leader") == 1.0


def test_told_to_stop_it_gives_the_lead_back_and_ends_well(tmp_path: Path) -> None:
    with (
        cluster(tmp_path) as api,
        OperatorProcess(api.kubeconfig, tmp_path, leader_election="true") as operator,
    ):
        led_by(api, "operator")
        operator.process.send_signal(signal.SIGTERM)
        assert operator.process.wait(20) == 0, operator.log.read_text()
        assert api.server.of("leases")[0]["spec"]["holderIdentity"] == ""


def test_a_wrong_setting_ends_it_with_a_sentence(tmp_path: Path) -> None:
    with OperatorProcess(tmp_path / "none", tmp_path, workers="none") as operator:
        assert operator.process.wait(30) == 2
        assert "ALIGNMENT_OPERATOR_WORKERS='none' is not a whole number" in operator.log.read_text()
    with OperatorProcess(tmp_path / "none", tmp_path) as operator:
        assert operator.process.wait(30) == 2
        assert "kubeconfig" in operator.log.read_text()
