"""Killed with SIGKILL at 20 random moments over all stages, a run still ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.embedded import Project, edits

# `align` and its stages start 22 times: a busy machine takes several times as long.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = {"prepare": 4, "train": 12, "evaluate": 18, "publish": 20}
"""How many kills there have been by the end of each stage; what one was too quick for, the next gets."""


def undisturbed_seconds(folder: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """How long each stage runs here and now: where in its life a kill can hit it."""
    twin = Project.local(folder).with_model().with_rows(rows)
    done = twin.run(twin.manifest())
    assert done.returncode == 0, done.stderr
    return {stage["name"]: stage["runningSeconds"] for stage in twin.resource()["status"]["stages"]}


class Killer:
    """Starts ``align run``, and kills it and its stage at random moments of the stages that still have kills to get."""

    def __init__(self, project: Project, manifest: Path, seconds: dict[str, float], seed: int) -> None:
        self._attempts = project.state / "runs" / "tiny" / "attempts"
        self._start = lambda: project.start(
            "run", "-f", str(manifest), "--state", str(project.state), "-o", "json"
        )
        self._seconds = seconds
        self._rng = random.Random(seed)
        self.hits = 0

    def kill_once(self) -> bool:
        """One life of ``align run``; False when the run ended before a kill was due."""
        known = set(self._attempts.glob("*/process.json"))
        process = self._start()
        try:
            while (stage := self._next_attempt(process, known)) is not None:
                left = KILLS[stage] - self.hits
                if left <= 0:
                    continue  # has had its share: let it pass
                # The last kill may come at any moment of the stage, also after its end; the others must leave it alive
                # for the next one, and a resumed attempt has less to do.
                share = 1.0 if left == 1 else 0.6
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self._rng.uniform(0, share * self._seconds[stage]))
                if process.poll() is not None:
                    break
                self.hits += 1
                return True
            return False
        finally:
            process.kill()
            process.communicate()
            self._kill_stages()

    def _next_attempt(self, process: subprocess.Popen[str], known: set[Path]) -> str | None:
        """Stage of the next attempt that begins, or None when ``align`` has ended."""
        while process.poll() is None:
            for record in set(self._attempts.glob("*/process.json")) - known:
                known.add(record)
                return record.parent.name.split("-")[-2]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)  # the executor has no event that another process could await
        return None

    def _kill_stages(self) -> None:
        for record in self._attempts.glob("*/process.json"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.killpg(json.loads(record.read_text(encoding="utf-8"))["pid"], signal.SIGKILL)


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
    seconds = undisturbed_seconds(tmp_path / "twin", edits(60))
    project = Project.local(tmp_path).with_model().with_rows(edits(60))
    manifest = project.manifest()
    project_rows = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    killer = Killer(project, manifest, seconds, seed=20)
    while killer.hits < KILLS["publish"] and killer.kill_once():
        pass
    done = project.run(manifest)
    assert done.returncode == 0, done.stderr
    assert killer.hits >= 16, "most of the kills must have hit a running stage"
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
