"""The state folder under pressure: two who begin one run, changed manifests, other versions, stages that will not end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alignment_api.conditions import ConditionType, Reason
from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import RunIdentity, StageRequest
from alignment_cli.embedded import process
from alignment_cli.embedded.backend import EmbeddedBackend
from alignment_cli.embedded.executor import Executor, Silent
from alignment_cli.embedded.process import _start_ticks
from alignment_cli.embedded.state import AttemptFolder, State
from alignment_cli.errors import CommandError
from support import runs


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def refusal(state: State, wanted: AlignmentRun) -> str:
    with pytest.raises(CommandError) as caught:
        state.create(wanted)
    return caught.value.message


def test_the_same_manifest_is_the_same_run(state: State) -> None:
    first = state.create(runs.run())
    state.change_spec("notes", suspend=True)
    again = state.create(runs.run())
    assert again.metadata.uid == first.metadata.uid
    assert again.spec.suspend


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"gate": {"criteria": [{"name": "edits", "metric": "editBurden", "maximum": 0.1}]}}, "spec.gate"),
        ({"gate": {"approval": "Manual"}}, "spec.gate"),
        ({"backoffLimit": 1, "training": {"epochs": 9}}, "spec.training, spec.backoffLimit"),
    ],
    ids=["a criterion", "the approval", "two sections"],
)
def test_a_changed_manifest_is_never_taken_for_the_old_run(
    state: State, section: dict[str, Any], named: str
) -> None:
    state.create(runs.run())
    said = refusal(state, runs.run(**section))
    assert f"another {named}, and" in said
    assert "align clone" in said


def test_a_decision_written_into_the_manifest_is_refused_with_the_way_to_decide(state: State) -> None:
    state.create(runs.run())
    decided = runs.run(gate={"decision": {"result": "Approve", "by": "a", "reason": "b"}})
    assert "align approve" in refusal(state, decided)


def test_many_who_begin_one_run_at_once_begin_the_same(state: State) -> None:
    ready = threading.Barrier(8)

    def begin(_: int) -> str:
        ready.wait()
        return state.create(runs.run()).metadata.uid

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 1


def test_a_run_of_another_version_is_refused_in_words(state: State) -> None:
    state.create(runs.run())
    file = state.run_folder("notes") / "run.json"
    file.write_text(json.dumps({"future": True}), encoding="utf-8")
    with pytest.raises(CommandError, match=r"run\.json is not a run that this version of align can read"):
        state.load("notes")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="damaged"):
        state.load("notes")


def test_an_attempt_of_another_version_is_refused_in_words(state: State) -> None:
    state.create(runs.run())
    folder = state.attempt("notes", StageName.PREPARE, 1)
    folder.path.mkdir(parents=True)
    folder.request.write_text(json.dumps({"future": True}), encoding="utf-8")
    with pytest.raises(CommandError, match="another version of align"):
        Executor(state, Silent()).run("notes")


@pytest.mark.parametrize("verb", [("run", "-f", "run.yaml"), ("list",)], ids=["run", "list"])
def test_a_state_folder_that_cannot_be_is_named(tmp_path: Path, verb: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "run.yaml").write_text(json.dumps(runs.manifest()), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "alignment_cli.main", *verb, "--state", "file"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "defect" not in done.stderr
    assert (done.returncode, "file/runs/notes" in done.stderr) in ((64, True), (0, False))


@contextmanager
def stage(state: State, script: str) -> Iterator[AttemptFolder]:
    """An attempt of prepare that an ``align run`` started and died of; it runs ``script`` and is reaped by somebody else."""
    run = state.create(runs.run())
    folder = state.attempt("notes", StageName.PREPARE, 1)
    folder.path.mkdir(parents=True)
    meta = run.metadata
    identity = RunIdentity(name=meta.name, namespace=meta.namespace, uid=meta.uid)
    request = StageRequest(stage=StageName.PREPARE, run=identity, spec=run.spec)
    folder.request.write_text(json.dumps(request.to_wire()), encoding="utf-8")
    with subprocess.Popen(
        ["sh", "-c", f"{script}; echo ready; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        reaper = threading.Thread(target=child.wait)
        reaper.start()
        folder.process.write_text(
            json.dumps({"pid": child.pid, "startTicks": _start_ticks(child.pid)}), encoding="utf-8"
        )
        try:
            yield folder
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
            reaper.join()


def test_a_stage_that_will_not_stop_is_killed_in_the_end(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    with stage(state, "trap '' TERM") as folder:
        state.change_spec("notes", suspend=True)
        ended = Executor(state, Silent()).run("notes")
        assert not process.alive(folder)
    summary = ended.status.condition(ConditionType.SUCCEEDED)
    assert summary is not None
    assert summary.reason is Reason.SUSPENDED
    assert ended.status.stage(StageName.PREPARE).failures == 0


def test_a_stage_is_told_to_stop_once_and_left_to_save(state: State, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with stage(state, f"trap 'echo told >> {said}; sleep 1; exit 143' TERM") as folder:
        state.change_spec("notes", suspend=True)
        Executor(state, Silent()).run("notes")
        assert not process.alive(folder)
    assert said.read_text(encoding="utf-8") == "told\n"


def test_ctrl_c_says_at_once_what_is_waited_for(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint may take a minute to save; silence would look like a hang."""
    script = "trap 'sleep 1; exit 143' TERM; echo ready; while :; do sleep 0.05; done"
    saving: list[bool] = []

    def start(folder: AttemptFolder, _request: StageRequest) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        children.append(child)
        os.kill(os.getpid(), signal.SIGINT)
        return child

    class Watching(Silent):
        def stopping(self, attempts: Sequence[str], seconds: float) -> None:
            saving.extend(child.poll() is None for child in children)
            super().stopping(attempts, seconds)

    children: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(process, "start", start)
    state.create(runs.run())
    with pytest.raises(KeyboardInterrupt):
        Executor(state, Watching()).run("notes")
    assert saving == [True], "said while the stage is still saving"
    assert "Stopping: notes-prepare-1 saves its work and ends, within 60 s" in capsys.readouterr().err
    (ended,) = state.attempts("notes")
    assert ended.read(ended.exit) == {"exitCode": 143}


def test_deleting_a_run_ends_its_stage_first(state: State) -> None:
    with stage(state, "trap 'sleep 0.5; exit 143' TERM") as folder:
        EmbeddedBackend(state.folder).delete("notes")
        assert not folder.path.exists()
        assert not process.alive(folder)
    assert state.names() == []


def test_a_run_that_is_worked_on_is_not_deleted_and_its_stage_goes_on(state: State) -> None:
    with stage(state, ":") as folder, state.exclusively("notes"):
        with pytest.raises(CommandError, match="Another align process"):
            EmbeddedBackend(state.folder).delete("notes")
        assert process.alive(folder)
    assert state.names() == ["notes"]
