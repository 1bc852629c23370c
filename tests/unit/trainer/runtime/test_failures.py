"""What exceptions mean to a person."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignment_api.stage import StageFailure, StageRequest, StageResult, read_termination_message
from alignment_trainer.errors import DataError, RequestError
from alignment_trainer.main import main
from alignment_trainer.runtime.failures import explain
from alignment_trainer.runtime.scratch import open_scratch, remove_scratch
from support.models import full_weights
from support.publishing import Publishable


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (DataError("x", reason="TooFewPairs"), 65, "TooFewPairs"),
        (OSError(errno.ENOSPC, "No space left on device", "/scratch/x"), 75, "DiskFull"),
        (OSError(errno.EROFS, "Read-only file system", "/scratch/x"), 64, "NotWritable"),
        (OSError(errno.EIO, "I/O error", "/scratch/x"), 75, "SystemTrouble"),
        (OSError("Can't load tokenizer for 'the patient said …'"), 1, "Defect"),
        (KeyError("the patient said …"), 1, "Defect"),
        (MemoryError(), 1, "OutOfMemory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 1, "OutOfMemory"),
        (type("DistBackendError", (RuntimeError,), {})("NCCL"), 75, "PeerLost"),
        (RuntimeError("[/t/gloo/transport/tcp/pair.cc:5] Connection closed by peer"), 75, "PeerLost"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_each_kind_of_trouble_has_its_code_and_reason(error: Exception, code: int, reason: str) -> None:
    explained = explain(error)
    assert (explained.exit_code, explained.reason) == (code, reason)
    assert "patient" not in explained.message


def test_defect_names_the_place_in_our_code() -> None:
    from alignment_trainer.storage import uris

    with pytest.raises(ValueError, match="below") as caught:
        uris.relative("s3://a", "s3://b")
    assert "ValueError at storage/uris.py:" in explain(caught.value).message


def publish_request(tmp_path: Path) -> tuple[Publishable, Path]:
    base = full_weights(tmp_path / "base")
    full_weights(tmp_path / "candidate", content=b"aligned")
    work = Publishable((tmp_path / "s").as_uri(), tmp_path / "candidate", base)
    file = tmp_path / "request.json"
    file.write_text(json.dumps(work.request.to_wire()))
    return work, file


def stage(file: Path, tmp_path: Path, name: str = "publish") -> subprocess.CompletedProcess[str]:
    """Run a stage as a process that tells which heavy libraries it imported."""
    code = (
        "import sys; from alignment_trainer.main import main; code = main(sys.argv[1:]);"
        "print(sorted({'torch', 'transformers', 'boto3', 'pyarrow'} & set(sys.modules))); sys.exit(code)"
    )
    environment = os.environ | {
        "ALIGNMENT_TERMINATION_LOG": str(tmp_path / "last-word"),
        "ALIGNMENT_PROGRESS_FILE": str(tmp_path / "progress.json"),
        "ALIGNMENT_SCRATCH": str(tmp_path / "scratch"),
    }
    return subprocess.run(
        [sys.executable, "-c", code, name, "--request", str(file)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def last_word(tmp_path: Path) -> StageResult | StageFailure | None:
    return read_termination_message((tmp_path / "last-word").read_text())


def test_publish_as_a_process_writes_its_result_last_and_imports_nothing_heavy(tmp_path: Path) -> None:
    work, file = publish_request(tmp_path)
    done = stage(file, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    word = last_word(tmp_path)
    assert isinstance(word, StageResult)
    stored = work.stores(work.folder).get(work.request.result_uri)[0]
    assert StageResult.model_validate_json(stored).digest == word.digest
    assert json.loads((tmp_path / "progress.json").read_text())["percent"] == 100
    assert list((tmp_path / "scratch").iterdir()) == []


def test_disk_that_takes_no_more_ends_with_75_and_no_traceback(tmp_path: Path) -> None:
    _, file = publish_request(tmp_path)
    (tmp_path / "last-word").write_text("")
    # A limit on file size fails writes the way a full disk does, for this process alone.
    shell = f"ulimit -f 0; exec {sys.executable} -m alignment_trainer.main publish --request {file}"
    environment = os.environ | {"ALIGNMENT_SCRATCH": str(tmp_path / "scratch")}
    done = subprocess.run(
        ["bash", "-c", shell], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 75, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s" / "publish" / "aliases").exists()


def test_scratch_is_closed_to_others_and_goes_when_the_run_ends(tmp_path: Path) -> None:

    _, file = publish_request(tmp_path)
    request = StageRequest.model_validate_json(file.read_text())
    folder = open_scratch(request)
    try:
        assert folder.stat().st_mode & 0o077 == 0
        assert open_scratch(request) == folder  # what an attempt left is found by the next
    finally:
        remove_scratch(request.run.uid)
    assert not folder.exists()


def test_scratch_that_somebody_else_laid_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    _, file = publish_request(tmp_path)
    request = StageRequest.model_validate_json(file.read_text())
    monkeypatch.setenv("ALIGNMENT_SCRATCH", str(tmp_path / "shared"))
    folder = open_scratch(request)
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(RequestError, match="another user"):
        open_scratch(request)


def test_a_mistyped_command_is_final() -> None:

    with pytest.raises(SystemExit) as ended:
        main(["prepair", "--request", "x"])
    assert ended.value.code == 64


def test_target_that_is_a_file_ends_with_64_and_names_it(tmp_path: Path) -> None:
    _, file = publish_request(tmp_path)
    (tmp_path / "s" / "publish").write_text("in the way")
    done = stage(file, tmp_path)
    assert done.returncode == 64
    word = last_word(tmp_path)
    assert isinstance(word, StageFailure)
    assert word.reason == "KeyIsFolder"
    assert (tmp_path / "s" / "publish").as_uri() in word.message
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "scratch").iterdir()) == []  # nobody comes back for it
