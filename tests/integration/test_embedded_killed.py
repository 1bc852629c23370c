"""Killed with SIGKILL at 20 random moments over all stages, a run still ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from alignment_api.names import STAGES
from support.embedded import Project, edits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = {"prepare": (4, 1.2), "train": (8, 6.0), "evaluate": (6, 5.0), "publish": (2, 0.8)}
"""By stage: how many kills, and within how many seconds after its attempt began (about as long as it takes)."""


def wait_for(path: Path, seconds: float) -> bool:
    """Wait for a file of the executor; it has no event that another process could wait on."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if path.exists():
            return True
        pause.wait(0.02)
    return False


def killed_in(project: Project, manifest: Path, stage: str, delay: float) -> bool:
    """Start ``align run``, kill it and its stage ``delay`` seconds into a new attempt of ``stage``; False if that stage was over."""
    attempts = project.state / "runs" / "tiny" / "attempts"
    number = 1 + max((int(p.name.rpartition("-")[2]) for p in attempts.glob(f"tiny-{stage}-*")), default=0)
    process = project.start("run", "-f", str(manifest), "--state", str(project.state), "-o", "json")
    begun = wait_for(attempts / f"tiny-{stage}-{number}" / "process.json", 40)
    if begun:
        threading.Event().wait(delay)
    alive = process.poll() is None
    process.kill()
    process.wait()
    for record in attempts.glob("*/process.json"):
        try:
            os.killpg(json.loads(record.read_text(encoding="utf-8"))["pid"], signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            continue
    process.communicate()
    return begun and alive


def assignment(project: Project) -> dict[str, str]:
    """Pair id to side, from the stored snapshot."""
    import pyarrow.parquet as pq

    folder = Path(project.resource()["status"]["stages"][0]["artifactUri"].removeprefix("file://"))
    sides = {}
    for side in ("train", "holdout"):
        for pair in (
            pq.read_table(folder / f"{side}.parquet", columns=["pair_id"]).column("pair_id").to_pylist()
        ):
            sides[pair] = side
    return sides


def test_twenty_kills_leave_one_version_and_the_same_split(tmp_path: Path) -> None:
    project = Project.local(tmp_path).with_model().with_rows(edits(60))
    manifest = project.manifest()
    project_rows = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    rng = random.Random(20)
    kills = 0
    for stage in map(str, STAGES):
        wanted, within = KILLS[stage]
        for _ in range(wanted):
            kills += killed_in(project, manifest, stage, rng.uniform(0, within))
    done = project.run(manifest)
    assert done.returncode == 0, done.stderr
    assert kills >= 10, "half of the kills must have hit a running stage, however busy the machine"
    versions = list((tmp_path / "models" / "versions").iterdir())
    assert len(versions) == 1
    alias = json.loads((tmp_path / "models" / "aliases" / "champion").read_text(encoding="utf-8"))
    assert alias["target"]["version"] == versions[0].name
    listed = {
        line.split("  ", 1)[1]
        for line in (versions[0] / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    }
    assert listed | {"SHA256SUMS"} == {
        str(p.relative_to(versions[0])) for p in versions[0].rglob("*") if p.is_file()
    }
    assert all(stage["failures"] == 0 for stage in project.resource()["status"]["stages"])
    assert assignment(project) == expected_assignment(project_rows)


def expected_assignment(rows: str) -> dict[str, str]:
    """The split as the rules alone give it, without any run."""
    from alignment_api.spec import EventsPolicy, HoldoutSpec, SourceFormat
    from alignment_trainer.data.accounting import Account
    from alignment_trainer.data.formats import read_row
    from alignment_trainer.data.pairing import Pairing
    from alignment_trainer.data.rows import Event, Pair, Place
    from alignment_trainer.data.split import group_key, side_of

    spec = HoldoutSpec(fraction=0.3)
    events = [
        read_row(json.loads(line), Place("rows", i), SourceFormat.AUTO)
        for i, line in enumerate(rows.splitlines())
    ]
    pairs: list[Pair] = []
    pairing = Pairing(EventsPolicy(), Account(), pairs.append)
    for event in events:
        assert isinstance(event, Event)
        pairing.add(event, linked=True)
    pairing.finish()
    return {pair.pair_id: str(side_of(group_key(pair, spec), spec)) for pair in pairs}
