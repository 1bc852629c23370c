"""A run without any object storage: model, data, artifacts and releases lie on a volume that its pods mount."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.cluster import local, paths

from support.cluster import Json, Team, reason


@pytest.fixture
def folder(notes: Team, material: Path) -> Iterator[Path]:
    """What the claim ``work`` of the namespace holds; every user may write there, as on many file servers."""
    if not local.is_up():
        pytest.skip("a folder of this machine is the volume, so the node must be this machine")
    folder = paths.state() / "volumes" / notes.name
    shutil.copytree(material, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    size, mode = {"storage": "1Gi"}, ["ReadWriteMany"]
    volume: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": notes.name},
        "spec": {
            "capacity": size,
            "accessModes": mode,
            "storageClassName": "",
            "hostPath": {"path": str(folder)},
        },
    }
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "work", "namespace": notes.name},
        "spec": {
            "accessModes": mode,
            "storageClassName": "",
            "volumeName": notes.name,
            "resources": {"requests": size},
        },
    }
    notes.kubectl.apply(volume)
    notes.kubectl.apply(claim)
    yield folder
    notes.kubectl("delete", "pv", notes.name, "--wait=false", check=False)


def test_a_run_on_a_volume_is_published_there_and_knows_no_credentials(notes: Team, folder: Path) -> None:
    text = json.dumps(notes.manifest()).replace(f"s3://{notes.name}/", "pvc://work/")
    manifest: Json = json.loads(text)
    del manifest["spec"]["storage"]
    notes.kubectl("-n", notes.name, "delete", "secret", "s3")
    notes.kubectl.apply(manifest)
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    uid = notes.run()["metadata"]["uid"][:8]
    assert status["published"]["uri"].rstrip("/") == f"pvc://work/models/versions/notes-{uid}"
    version = folder / "models" / "versions" / f"notes-{uid}"
    assert {"lineage.json", "SHA256SUMS"} <= {path.name for path in version.iterdir()}
    assert f"notes-{uid}" in (folder / "models" / "aliases" / "champion").read_text(encoding="utf-8")
