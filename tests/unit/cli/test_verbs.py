"""The verbs on runs of a state folder: what is printed, what is refused, how they end. No stage runs here."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.exitcodes import AlignExit
from alignment_api.names import StageName, run_folder
from alignment_api.run import AlignmentRun
from alignment_api.status import AlignmentRunStatus, Condition, Funnel, PublishedModel, StageStatus
from alignment_cli import main as entry
from alignment_cli.embedded.process import _start_ticks
from alignment_cli.embedded.state import AttemptFolder, State
from alignment_trainer.storage.folders import delete_folder
from alignment_trainer.storage.store import ObjectStore
from support import runs

SCRIPTS = Path(sys.executable).parent


class Shell:
    """Calls ``align`` in this process with a state folder, as a person would type it."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.state = State(folder)
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, reason: Reason, status: ConditionStatus, **fields: Any) -> AlignmentRun:
        """A stored run that stands there."""
        run = self.state.create(runs.run())
        condition = Condition(
            type=ConditionType.SUCCEEDED, status=status, reason=reason, last_transition_time=runs.START
        )
        return self.state.save_status(run, AlignmentRunStatus(conditions=(condition,), **fields))

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["align", *arguments, "--state", str(self.state.folder)])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, error = self._capsys.readouterr()
        return int(ended.value.code or 0), out, error


@pytest.fixture
def align(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "state", monkeypatch, capsys)


def test_an_empty_folder_has_no_runs(align: Shell) -> None:
    assert align("list") == (0, "There are no runs here.\n", "")
    assert json.loads(align("list", "-o", "json")[1]) == []


def test_a_run_is_listed_and_told(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    assert "Training" in align("list")[1]
    assert align("status", "notes")[1].startswith("notes  Training")
    assert json.loads(align("status", "notes", "-o", "json")[1])["metadata"]["name"] == "notes"
    assert yaml.safe_load(align("status", "notes", "-o", "yaml")[1])["kind"] == "AlignmentRun"


def test_what_is_no_terminal_gets_every_word_and_no_blanks_after_it(align: Shell) -> None:
    long = "s3://models/" + "notes/" * 60
    align.run(
        Reason.PUBLISHED,
        ConditionStatus.TRUE,
        data=Funnel(
            rows=9, pairs=9, train=6, holdout=3, warnings=("of many words: " + "word " * 80 + "end",)
        ),
        published=PublishedModel(
            uri=f"{long}versions/1/", version="1", digest=runs.DIGEST, alias=f"{long}aliases/champion"
        ),
    )
    for verb in (["status", "notes"], ["list"]):
        out = align(*verb)[1]
        assert [line for line in out.splitlines() if line != line.rstrip()] == []
    out = align("status", "notes")[1]
    assert "\nData:   9 rows" in out
    assert "word end\n" in out
    assert f"Model:  {long}versions/1/\nAlias:  {long}aliases/champion\n" in out


@pytest.mark.parametrize("damage", ["{", "{}", "\udcff"], ids=["cut short", "no run", "no text"])
def test_a_damaged_run_is_named_and_hides_no_other(align: Shell, damage: str) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    broken = align.state.run_folder("broken") / "run.json"
    broken.parent.mkdir()
    broken.write_text(damage, encoding="utf-8", errors="surrogateescape")
    code, out, error = align("list")
    assert code == AlignExit.REQUEST_INVALID
    assert "notes" in out
    assert error.startswith(f"align: {broken} is ")
    assert "delete the run's folder" in error
    code, out, error = align("list", "-o", "json")
    assert code == AlignExit.REQUEST_INVALID
    assert [run["metadata"]["name"] for run in json.loads(out)] == ["notes"]
    assert str(broken) in error


def test_a_run_whose_store_cannot_be_reached_is_not_deleted_with_its_artifacts(
    align: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would know any more where they lie."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    storage = {"endpoint": "http://127.0.0.1:9", "region": "us-east-1"}
    align.state.create(runs.run(artifacts={"uri": "s3://artifacts/"}, storage=storage))
    code, _, error = align("delete", "notes", "--artifacts", "--yes")
    assert code == AlignExit.OTHER
    assert "http://127.0.0.1:9" in error
    assert align.state.names() == ["notes"]
    assert align("delete", "notes", "--yes")[0] == 0, "without the artifacts no store is asked"
    assert align.state.names() == []


def test_deleting_with_the_artifacts_leaves_what_others_stored(align: Shell, tmp_path: Path) -> None:
    artifacts = (tmp_path / "artifacts").as_uri() + "/"
    run = align.state.create(runs.run(artifacts={"uri": artifacts}))
    own = Path(run_folder(artifacts, "team", "notes", run.metadata.uid).removeprefix("file://"))
    kept = tmp_path / "artifacts" / "runs" / "team" / "notes-of-another" / "data" / "train.parquet"
    for path in (own / "data" / "train.parquet", own / "results" / "prepare.json", kept):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    code, out, _ = align("delete", "notes", "--artifacts", "--yes")
    assert code == 0
    assert f"2 objects below {own.as_uri()}/" in out
    assert not own.exists()
    assert kept.exists()
    assert align.state.names() == []


def test_what_is_stored_while_artifacts_are_deleted_is_not_passed_over(
    align: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = (tmp_path / "artifacts").as_uri() + "/"
    run = align.state.create(runs.run(artifacts={"uri": artifacts}))
    folder = run_folder(artifacts, "team", "notes", run.metadata.uid)
    late = Path(folder.removeprefix("file://")) / "checkpoint"

    def delete_and_be_written_to(store: ObjectStore, uri: str) -> int:
        count = delete_folder(store, uri)
        late.parent.mkdir(parents=True)
        late.write_bytes(b"x")
        return count

    monkeypatch.setattr("alignment_trainer.storage.folders.delete_folder", delete_and_be_written_to)
    code, _, error = align("delete", "notes", "--artifacts", "--yes")
    assert code == AlignExit.OTHER
    assert f"writes below {folder}: 1 object came since" in error


def test_the_story_names_model_champion_and_who_decided(align: Shell) -> None:
    align.run(Reason.AWAITING_DECISION, ConditionStatus.UNKNOWN, pins=runs.pins())
    align("approve", "notes", "--reason", "read it", "--by", "dr@example.org")
    story = align("status", "notes")[1]
    assert "s3://models/base/  sha256:000000000000\n" in story
    assert "there was no champion" in story
    assert "Approve by dr@example.org: read it" in story


def test_a_run_that_is_not_there_is_named_with_those_that_are(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    code, _, error = align("status", "other")
    assert code == AlignExit.REQUEST_INVALID
    assert "runs there: notes" in error


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (Reason.PUBLISHED, ConditionStatus.TRUE, AlignExit.PUBLISHED),
        (Reason.GATE_FAILED, ConditionStatus.FALSE, AlignExit.GATE_FAILED),
        (Reason.REJECTED, ConditionStatus.FALSE, AlignExit.GATE_FAILED),
        (Reason.GATE_INCONCLUSIVE, ConditionStatus.FALSE, AlignExit.UNDECIDED),
        (Reason.AWAITING_DECISION, ConditionStatus.UNKNOWN, AlignExit.UNDECIDED),
        (Reason.TOO_FEW_PAIRS, ConditionStatus.FALSE, AlignExit.DATA_INVALID),
        (Reason.REQUEST_INVALID, ConditionStatus.FALSE, AlignExit.REQUEST_INVALID),
        (Reason.STAGE_FAILED, ConditionStatus.FALSE, AlignExit.OTHER),
    ],
    ids=lambda value: str(getattr(value, "value", value)),
)
def test_watching_to_the_end_says_it_in_the_exit_code(
    align: Shell, reason: Reason, status: ConditionStatus, code: AlignExit
) -> None:
    align.run(reason, status)
    assert align("status", "notes")[0] == 0
    assert align("status", "notes", "--watch")[0] == code
    ended, out, _ = align("status", "notes", "--watch", "-o", "json")
    assert (ended, json.loads(out)["status"]["conditions"][0]["reason"]) == (code, reason)


def test_a_decision_is_taken_only_where_one_is_asked_for(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    code, _, error = align("approve", "notes", "--reason", "looks well")
    assert code == AlignExit.REQUEST_INVALID
    assert "AwaitingDecision" in error
    assert align("approve", "notes")[0] == AlignExit.REQUEST_INVALID  # without a reason


def test_a_decision_is_kept_with_name_and_reason_and_says_how_to_go_on(align: Shell) -> None:
    align.run(Reason.AWAITING_DECISION, ConditionStatus.UNKNOWN)
    code, out, _ = align("reject", "notes", "--reason", "too long", "--by", "dr@example.org")
    assert code == 0
    assert f"align run notes --state {align.state.folder}" in out
    decision = align.state.load("notes").spec.gate.decision
    assert decision is not None
    assert (decision.result, decision.by, decision.reason) == ("Reject", "dr@example.org", "too long")


def test_suspend_and_resume_change_one_field(align: Shell) -> None:
    before = align.run(Reason.TRAINING, ConditionStatus.UNKNOWN).spec
    align("suspend", "notes")
    assert align.state.load("notes").spec == before.model_copy(update={"suspend": True})
    align("resume", "notes")
    assert align.state.load("notes").spec == before


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_what_has_ended_is_neither_suspended_nor_resumed(align: Shell, verb: str) -> None:
    align.run(Reason.GATE_FAILED, ConditionStatus.FALSE)
    code, _, error = align(verb, "notes")
    assert code == AlignExit.REQUEST_INVALID
    assert "notes has ended" in error
    assert "align clone notes NEW" in error


def test_a_script_must_say_that_it_means_to_delete(align: Shell) -> None:
    align.run(Reason.GATE_FAILED, ConditionStatus.FALSE)
    code, _, error = align("delete", "notes")
    assert code == AlignExit.REQUEST_INVALID
    assert "--yes" in error
    assert align("status", "notes")[0] == 0, "it is still there"


def test_what_is_deleted_is_said_with_the_place_where_it_was(align: Shell) -> None:
    align.run(Reason.GATE_FAILED, ConditionStatus.FALSE)
    assert align("delete", "notes", "--yes")[1] == f"Deleted run notes (state folder {align.state.folder}).\n"


def test_a_clone_can_be_run_as_it_is(align: Shell) -> None:
    align.run(Reason.GATE_FAILED, ConditionStatus.FALSE)
    _, out, _ = align("clone", "notes", "notes-2")
    clone = AlignmentRun.model_validate(yaml.safe_load(out))
    assert clone.metadata.name == "notes-2"
    assert clone.spec == align.state.load("notes").spec
    assert clone.status == AlignmentRunStatus()


def attempt(align: Shell, words: str, stage: StageName = StageName.TRAIN) -> AttemptFolder:
    """An attempt that has said something."""
    folder = align.state.attempt("notes", stage, 1)
    folder.path.mkdir(parents=True)
    request = {
        "stage": stage,
        "run": {"name": "notes", "namespace": "team", "uid": "u"},
        "spec": runs.run().spec.to_wire(),
    }
    folder.request.write_text(json.dumps(request), encoding="utf-8")
    folder.output.write_text(words, encoding="utf-8")
    return folder


def test_logs_are_those_of_the_newest_stage_or_of_the_named_one(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    attempt(align, "read 10 rows\n", StageName.PREPARE)
    attempt(align, "step 1 \x1b[2J\n")
    assert align("logs", "notes")[1] == "step 1 \\u001b[2J\n"
    assert align("logs", "notes", "--stage", "prepare")[1] == "read 10 rows\n"
    assert "no log of stage publish" in align("logs", "notes", "--stage", "publish")[2]
    assert "one node" in align("logs", "notes", "--node", "1")[2]


def test_following_a_log_ends_with_the_stage(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    folder = attempt(align, "")
    with (
        folder.output.open("ab") as output,
        subprocess.Popen(
            ["sh", "-c", "echo one; read wait; echo two"], stdin=subprocess.PIPE, stdout=output
        ) as stage,
    ):
        folder.process.write_text(
            json.dumps({"pid": stage.pid, "startTicks": _start_ticks(stage.pid)}), encoding="utf-8"
        )
        command = [sys.executable, "-m", "alignment_cli.main", "logs", "notes", "-f", "--state"]
        with subprocess.Popen(
            [*command, str(align.state.folder)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        ) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "one\n"
            assert stage.stdin is not None
            stage.stdin.write(b"go\n")
            stage.stdin.close()
            stage.wait(10)
            assert follower.stdout.read() == "two\n"
            assert follower.wait(10) == 0


def test_a_report_is_fetched_shown_and_printed_for_machines(
    align: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "report.html").write_text("<!doctype html>", encoding="utf-8")
    (folder / "report.json").write_text('{"verdict": "Passed"}', encoding="utf-8")
    stage = StageStatus(name=StageName.EVALUATE, artifact_uri=f"{folder.as_uri()}/")
    align.run(Reason.PUBLISHED, ConditionStatus.TRUE, stages=(stage,))
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert align("report", "notes")[1].strip() == str(folder / "report.html")
    assert opened == []  # not a terminal
    align("report", "notes", "--open", "--to", str(tmp_path / "copy.html"))
    assert opened == [(tmp_path / "copy.html").as_uri()]
    assert (tmp_path / "copy.html").read_text(encoding="utf-8") == "<!doctype html>"
    assert json.loads(align("report", "notes", "-o", "json")[1]) == {"verdict": "Passed"}


def test_a_run_without_an_evaluation_has_no_report(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    code, _, error = align("report", "notes")
    assert code == AlignExit.REQUEST_INVALID
    assert "its evaluation has not ended" in error


def test_this_machine_and_a_cluster_cannot_be_meant_at_once(align: Shell) -> None:
    code, _, error = align("list", "-n", "team")
    assert code == AlignExit.REQUEST_INVALID
    assert "one or the other" in error
    assert align("list", "-A")[0] == AlignExit.REQUEST_INVALID


def complete(*words: str) -> list[str]:
    done = subprocess.run(
        [str(SCRIPTS / "kubectl_complete-align"), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_kubectl_completes_verbs_options_values_and_names(align: Shell) -> None:
    align.run(Reason.TRAINING, ConditionStatus.UNKNOWN)
    state = str(align.state.folder)
    assert complete("su") == ["suspend", ":4"]
    assert complete("alias", "s") == ["show", "set", ":4"]
    assert complete("logs", "--stage", "p") == ["prepare", "publish", ":4"]
    assert complete("status", "--state", state, "no") == ["notes", ":4"]
    assert complete("status", "--state", f"{state}/nowhere", "no") == [":4"]


def on_a_terminal(*command: str, **environment: str) -> str:
    """What a command writes when its output is a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command,
        stdout=follower,
        stdin=follower,
        stderr=follower,
        env=os.environ | {"TERM": "xterm-256color"} | environment,
    ) as process:
        os.close(follower)
        text = b""
        try:
            while chunk := os.read(leader, 4096):
                text += chunk
        except OSError:  # the terminal is gone: the process has ended
            pass
        process.wait(30)
    os.close(leader)
    return text.decode()


def test_colours_appear_on_terminals_only(align: Shell) -> None:
    align.run(Reason.PUBLISHED, ConditionStatus.TRUE)
    command = [
        sys.executable,
        "-m",
        "alignment_cli.main",
        "status",
        "notes",
        "--state",
        str(align.state.folder),
    ]
    assert "\x1b[32m" in on_a_terminal(*command)
    assert "\x1b[32m" not in on_a_terminal(*command, NO_COLOR="1")
    assert "\x1b" not in align("status", "notes")[1]
