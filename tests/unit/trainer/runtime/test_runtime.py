"""What every stage shares: the request in, progress out, the result last, one exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from alignment_api.names import StageName
from alignment_api.spec import StorageSpec
from alignment_api.stage import RunIdentity, StageFailure, StageRequest, StageResult, read_termination_message
from alignment_trainer.errors import DataError, RequestError, StageError, Stopped, TemporaryError
from alignment_trainer.runtime.progress import ProgressReporter
from alignment_trainer.runtime.request import read_request
from alignment_trainer.runtime.results import existing_result, say_failure, store_result
from alignment_trainer.runtime.server import PROGRESS_ADDRESS, serve
from alignment_trainer.storage.registry import Stores
from support.runs import UID, result, run


def request_in(folder: Path) -> StageRequest:
    spec = run(artifacts={"uri": f"file://{folder}/artifacts/"}).spec
    return StageRequest(
        stage=StageName.PREPARE, run=RunIdentity(name="notes", namespace="team", uid=UID), spec=spec
    )


def test_progress_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    reporter = ProgressReporter(StageName.TRAIN, tmp_path / "gone" / "progress.json")
    reporter.update(3, 3)
    assert reporter.snapshot()[0].percent == 100


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_request_is_read_back(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request.to_wire()))
    assert read_request(file, StageName.PREPARE) == request


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"stage": "prepare"}', "run"),
        ("not json", "the whole file"),
        (None, "cannot be read"),
    ],
    ids=["a field is missing", "not json", "no such file"],
)
def test_a_bad_request_names_file_and_field(tmp_path: Path, text: str | None, names: str) -> None:
    file = tmp_path / "request.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RequestError, match=names) as caught:
        read_request(file, StageName.PREPARE)
    assert str(file) in caught.value.message


def test_a_request_for_another_stage_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request_in(tmp_path).to_wire()))
    with pytest.raises(RequestError, match="for stage prepare"):
        read_request(file, StageName.TRAIN)


def test_a_result_is_found_again_for_the_same_input_only(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    store = Stores(StorageSpec())(request.result_uri)
    assert existing_result(request, store) is None
    answer = result(StageName.PREPARE, request)
    store_result(request, answer, store)
    assert existing_result(request.model_copy(update={"attempt": 7}), store) == answer
    other = request.model_copy(
        update={
            "spec": run(
                artifacts=request.spec.artifacts.to_wire(), data={"sources": [{"uri": "s3://x/y"}]}
            ).spec
        }
    )
    assert existing_result(other, store) is None


def test_the_time_left_follows_the_pace_of_the_present_activity() -> None:
    clock = Clock()
    reporter = ProgressReporter(StageName.TRAIN, None, clock)
    reporter.update(0, 100, activity="warm start")
    clock.seconds = 1
    reporter.update(50, 100, activity="warm start")
    reporter.update(50, 100, activity="training")
    clock.seconds = 11
    reporter.update(60, 100, activity="training")
    status, _ = reporter.snapshot()
    assert status.eta_seconds == 40
    assert status.percent == 60


def test_the_progress_file_is_whole_json_and_not_written_at_every_step(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "progress.json"
    reporter = ProgressReporter(StageName.TRAIN, file, clock)
    reporter.update(1, 10, metrics={"loss": 0.5})
    reporter.update(2, 10)
    assert json.loads(file.read_text())["step"] == 1
    clock.seconds = 1
    reporter.update(3, 10)
    wire = json.loads(file.read_text())
    assert (wire["step"], wire["metrics"]) == (3, {"loss": 0.5})


def test_progress_and_metrics_are_served_on_a_free_port() -> None:
    reporter = ProgressReporter(StageName.TRAIN, None)
    reporter.update(3, 10, activity="training", metrics={"rewards/margins": 0.25})
    with serve(reporter) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress") as answer:
            assert json.load(answer)["percent"] == 30
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/other")
    assert 'alignment_stage_step{stage="train"} 3' in text
    assert 'alignment_stage_rewards_margins{stage="train"} 0.25' in text


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_pod_is_read_by_its_address_of_either_family(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_ADDRESS, ":0")
    with serve(ProgressReporter(StageName.TRAIN, None)) as port:
        with urllib.request.urlopen(f"http://{host}:{port}/progress") as answer:
            assert json.load(answer)["stage"] == "train"
        monkeypatch.setenv(PROGRESS_ADDRESS, f":{port}")
        with (
            pytest.raises(RequestError, match="cannot be listened on"),
            serve(ProgressReporter(StageName.TRAIN, None)),
        ):
            pass


def test_without_ipv6_a_pod_is_read_by_its_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_ADDRESS, ":0")
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with (
        serve(ProgressReporter(StageName.TRAIN, None)) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/progress") as answer,
    ):
        assert json.load(answer)["stage"] == "train"


@pytest.mark.parametrize(
    ("error", "code"),
    [(RequestError("x"), 64), (DataError("x"), 65), (TemporaryError("x"), 75), (Stopped("x"), 143)],
)
def test_each_family_has_its_exit_code(error: StageError, code: int) -> None:
    assert error.exit_code == code


def test_a_failure_leaves_reason_and_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "termination.log"
    monkeypatch.setenv("ALIGNMENT_TERMINATION_LOG", str(log))
    say_failure(DataError("no pairs in a.jsonl", reason="TooFewPairs"))
    back = read_termination_message(log.read_text())
    assert back == StageFailure(reason="TooFewPairs", message="no pairs in a.jsonl")


def test_a_mounted_termination_log_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination.log"
    log.touch()
    inode = log.stat().st_ino
    monkeypatch.setenv("ALIGNMENT_TERMINATION_LOG", str(log))
    say_failure(DataError("no pairs in a.jsonl", reason="TooFewPairs"))
    assert log.stat().st_ino == inode
    assert [file.name for file in tmp_path.iterdir()] == ["termination.log"]
    assert read_termination_message(log.read_text()) is not None


def stage_process(folder: Path, request: StageRequest) -> subprocess.Popen[bytes]:
    file = folder / "request.json"
    file.write_text(json.dumps(request.to_wire()))
    environment = os.environ | {
        "ALIGNMENT_TERMINATION_LOG": str(folder / "last-word"),
        "ALIGNMENT_SCRATCH": str(folder),
    }
    command = [sys.executable, "-m", "alignment_trainer.main", "prepare", "--request", str(file)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def test_a_process_with_a_result_emits_it_again_and_works_no_more(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    answer = result(StageName.PREPARE, request)
    store_result(request, answer, Stores(StorageSpec())(request.result_uri))
    process = stage_process(tmp_path, request)
    process.communicate(timeout=60)
    assert process.returncode == 0
    back = read_termination_message((tmp_path / "last-word").read_text())
    assert isinstance(back, StageResult)
    assert back.input_digest == request.input_digest


def test_no_traceback_reaches_a_person_for_a_missing_request(tmp_path: Path) -> None:
    environment = os.environ | {"ALIGNMENT_TERMINATION_LOG": str(tmp_path / "last-word")}
    command = [
        sys.executable,
        "-m",
        "alignment_trainer.main",
        "prepare",
        "--request",
        str(tmp_path / "none.json"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "Traceback" not in done.stderr
    assert "none.json" in done.stderr


def test_termination_is_an_exit_code_of_its_own() -> None:
    assert Stopped.exit_code == 128 + signal.SIGTERM
