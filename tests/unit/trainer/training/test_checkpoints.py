"""Fetched checkpoints are whole or not there, wherever an attempt was killed, and stand on the disk once."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from alignment_api.names import StageName
from alignment_api.stage import RunIdentity, StageRequest
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.training.checkpoints import Checkpoints
from support.publishing import SilentProgress
from support.runs import UID, run
from support.unreliable import KilledError

FILES = {"model.safetensors": b"weights", "optimizer.pt": b"moments", "trainer_state.json": b"{}"}


class Elsewhere(LocalStore):
    """A store whose objects lie on no machine of ours."""

    def local_path(self, uri: str) -> Path | None:
        return None


@pytest.fixture(params=[LocalStore, Elsewhere])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    """Of a run of which two are stored."""
    spec = run(artifacts={"uri": (tmp_path / "store").as_uri() + "/"}).spec
    stage = StageRequest(stage=StageName.TRAIN, run=RunIdentity(name="notes", uid=UID), spec=spec)
    store = request.param()
    context = StageContext(
        stage, lambda _uri: store, tmp_path / "scratch", SilentProgress(), threading.Event()
    )
    made = Checkpoints(context, "dpo")
    for step in (3, 6):
        folder = tmp_path / "written" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        made.upload(folder, keep={"checkpoint-3"})
    return made


def whole(folder: Path) -> bool:
    return all((folder / name).read_bytes() == content for name, content in FILES.items())


def test_every_stored_checkpoint_is_fetched_and_the_newest_named(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    target = tmp_path / "scratch" / "dpo"
    assert checkpoints.fetch(target) == target / "checkpoint-6"
    assert sorted(path.name for path in target.iterdir()) == ["checkpoint-3", "checkpoint-6"]
    assert all(map(whole, target.iterdir()))
    copies = [path for path in (tmp_path / "scratch").rglob("*") if path.name == "optimizer.pt"]
    assert len(copies) == 2, "one of each"


@pytest.mark.parametrize("checkpoints", [LocalStore], indirect=True)
def test_an_attempt_killed_while_it_copies_leaves_nothing_that_is_trusted(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: Path, target: Path, **_: Any) -> None:
        target.mkdir(parents=True)
        shutil.copy(source / "model.safetensors", target)
        raise KilledError

    target = tmp_path / "scratch" / "dpo"
    with monkeypatch.context() as attempt:
        attempt.setattr(shutil, "copytree", killed)
        with pytest.raises(KilledError):
            checkpoints.fetch(target)
    newest = checkpoints.fetch(target)
    assert newest is not None
    assert all(map(whole, target.iterdir()))


def test_a_checkpoint_that_lost_files_is_fetched_anew(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """As one does that is being removed, being older, when the attempt is killed."""
    target = tmp_path / "scratch" / "dpo"
    checkpoints.fetch(target)
    (target / "checkpoint-3" / "optimizer.pt").unlink()
    checkpoints.fetch(target)
    assert all(map(whole, target.iterdir()))


def test_what_was_never_stored_is_removed(checkpoints: Checkpoints, tmp_path: Path) -> None:
    unfinished = tmp_path / "scratch" / "dpo" / "checkpoint-9"
    unfinished.mkdir(parents=True)
    assert checkpoints.fetch(unfinished.parent) == unfinished.with_name("checkpoint-6")
    assert not unfinished.exists()
