"""HTTP to an API server: credentials that change, and a server that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from alignment_operator.connection import HttpTransport, login
from alignment_operator.errors import SettingsError, Unreachable


def kubeconfig(path: Path, server: str, token: str) -> None:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))


async def test_a_token_that_was_refused_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        if seen[-1] != "Bearer new":
            kubeconfig(config, str(server.make_url("")), "new")
            return web.json_response({"message": "expired"}, status=401)
        return web.json_response({"kind": "Job"})

    app = web.Application()
    app.router.add_get("/x", answer)
    async with TestServer(app) as server:
        kubeconfig(config, str(server.make_url("")), "old")
        async with HttpTransport(login()) as transport:
            status, _, body = await transport.request("GET", "/x", {}, None, "application/json")
    assert (status, body) == (200, {"kind": "Job"})
    assert seen == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("path", ["", "/k8s/clusters/c-1", "/k8s/clusters/c-1/"])
async def test_a_server_may_stand_behind_a_path(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"kind": "Job"})

    app = web.Application()
    app.router.add_get(f"{path.rstrip('/')}/apis/batch/v1/jobs", answer)
    async with TestServer(app) as server:
        kubeconfig(tmp_path / "config", str(server.make_url(path)), "t")
        async with HttpTransport(login()) as transport:
            status, _, _ = await transport.request(
                "GET", "/apis/batch/v1/jobs", {"labelSelector": "a=b"}, None, "application/json"
            )
    assert status == 200


async def test_a_server_that_is_not_there_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    kubeconfig(tmp_path / "config", "http://127.0.0.1:9", "t")
    async with HttpTransport(login()) as transport:
        with pytest.raises(Unreachable):
            await transport.request("GET", "/x", {}, None, "application/json")


def test_without_credentials_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="set KUBECONFIG"):
        login()
