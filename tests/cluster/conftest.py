"""A prepared cluster for every test here, and a namespace of its own for each.

Tests run side by side. Those marked ``alone`` disturb the whole cluster, so they wait for the others and run last.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.cluster import paths, s3
from tools.cluster.prepare import Prepared

from support.cluster import Team, team
from support.embedded import Project, edits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.timeout(2700))
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    try:
        return Prepared.read()
    except OSError:
        reason = "no prepared cluster: run `make test-cluster`, or `python -m tools.cluster prepare` first"
        if os.environ.get("ALIGNMENT_CLUSTER_REQUIRED"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest, prepared: Prepared) -> Iterator[None]:
    """Tests share the cluster; one marked ``alone`` has it for itself."""
    assert prepared
    with (paths.state() / "turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="session")
def tunnel(prepared: Prepared) -> Iterator[s3.Tunnel]:
    opened = s3.Tunnel(prepared.commands())
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def material(prepared: Prepared) -> Path:
    """A base model and rows, as every team's bucket has them. Made once for all test processes."""
    assert prepared
    folder = paths.state() / "material"
    with (paths.state() / "material.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = folder.with_name("material.new")
            making.mkdir()
            # A group of its own for each row, so that the gate's intervals have groups enough.
            rows = [row | {"group": row["id"]} for row in edits(90)]
            Project.local(making).with_model().with_rows(rows)
            making.rename(folder)
    return folder


@pytest.fixture
def notes(
    request: pytest.FixtureRequest, prepared: Prepared, tunnel: s3.Tunnel, material: Path
) -> Iterator[Team]:
    """A namespace of this test alone, named after it."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    words += f"-{zlib.crc32(request.node.nodeid.encode()):08x}"
    with team(prepared, tunnel, f"t-{words}", material) as made:
        yield made
