"""Storage behind a certificate of the hospital's own authority: trusted where the run names it, refused in words elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools.cluster import shell
from tools.cluster.prepare import Prepared

from support.cluster import Json, Team, reason

HOST = "files"
PORT = 8443
GATEWAY = f"""
import asyncio, ssl

async def pump(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()

async def serve(reader, writer):
    from_store, to_store = await asyncio.open_connection("s3.storage.svc", 7070)
    await asyncio.gather(pump(reader, to_store), pump(from_store, writer), return_exceptions=True)

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    server = await asyncio.start_server(serve, "", {PORT}, ssl=context)
    await server.serve_forever()

asyncio.run(main())
"""
"""Ends TLS in front of the S3 server; what is signed passes through as it is."""


@pytest.fixture
def guarded(notes: Team, prepared: Prepared, tmp_path: Path) -> Team:
    """The namespace, with a way to its bucket by TLS, and the authority in the ConfigMap ``authority``."""
    authority, certificate = _certificates(tmp_path, f"{HOST}.{notes.name}.svc")
    notes.kubectl.apply(_named(notes, "ConfigMap", "authority") | {"data": {"ca.crt": authority}})
    notes.kubectl.apply(_named(notes, "Secret", "tls") | {"stringData": certificate})
    labels = {"app": HOST}
    container = {
        "name": "main",
        "image": prepared.trainer,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", GATEWAY],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [{"name": "tls", "secret": {"secretName": "tls"}}]
    pod = {"containers": [container], "volumes": volumes, "securityContext": security}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    notes.kubectl.apply(_named(notes, "Deployment", HOST, "apps/v1") | {"spec": spec})
    service = {"selector": labels, "ports": [{"port": PORT}]}
    notes.kubectl.apply(_named(notes, "Service", HOST) | {"spec": service})
    notes.kubectl("-n", notes.name, "rollout", "status", f"deployment/{HOST}", "--timeout=120s")
    return notes


def test_a_run_reaches_its_storage_by_the_authority_it_names_and_says_so_where_it_names_none(
    guarded: Team,
) -> None:
    manifest = guarded.manifest()
    storage = manifest["spec"]["storage"] | {"endpoint": f"https://{HOST}.{guarded.name}.svc:{PORT}"}
    manifest["spec"]["storage"] = storage | {"caBundleRef": {"name": "authority"}}
    guarded.kubectl.apply(manifest)
    stranger: Json = json.loads(json.dumps(manifest))
    stranger["metadata"]["name"] = "stranger"
    stranger["spec"]["storage"] = storage
    guarded.kubectl.apply(stranger)

    assert reason(guarded.until_ended()) == "Published", guarded.story()
    refused = guarded.until_ended("stranger")
    assert "spec.storage.caBundleRef" in refused["lastFailure"]["message"], guarded.story("stranger")


def _named(team: Team, kind: str, name: str, version: str = "v1") -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": team.name}}


def _certificates(folder: Path, host: str) -> tuple[str, dict[str, str]]:
    """The authority's certificate, and key and certificate of the host."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    authority = folder / "ca.crt", folder / "ca.key"
    usage = ["-addext", "keyUsage=critical,keyCertSign"]  # strict verification asks for it
    shell.run([*make, "-subj", "/CN=a-hospital", *usage, "-out", authority[0], "-keyout", authority[1]])
    signed = ["-CA", authority[0], "-CAkey", authority[1]]
    signed += ["-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-out", folder / "tls.crt", "-keyout", folder / "tls.key"]
    shell.run([*make, "-subj", f"/CN={HOST}", *signed, *files])
    certificate = {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}
    return authority[0].read_text(), certificate
