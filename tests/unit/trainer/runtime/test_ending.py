"""A stage's process begins and ends without what costs seconds and gives nothing."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignment_trainer.runtime.collector import collector_at_rest


def test_the_collector_rests_while_libraries_are_loaded_and_then_goes_on() -> None:
    def load() -> None:
        with collector_at_rest():
            assert not gc.isenabled()
            raise ImportError

    with pytest.raises(ImportError):
        load()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


ENDING = """
import atexit, logging, sys
from alignment_trainer.runtime.ending import end_without_teardown
atexit.register(print, "taken apart")
handler = logging.FileHandler(sys.argv[1], delay=True)
logging.getLogger().addHandler(handler)
logging.getLogger().warning("the last word")
print("said")
end_without_teardown(65)
"""


def test_what_was_said_is_out_and_nothing_is_taken_apart(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(tmp_path / "log")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (65, "said\n")
    assert "the last word" in (tmp_path / "log").read_text(encoding="utf-8")


def test_without_a_standard_output_the_exit_code_stays(tmp_path: Path) -> None:
    closed = f"exec {sys.executable} -c 'import sys; from alignment_trainer.runtime.ending import *; end_without_teardown(65)' >&-"
    assert subprocess.run(["sh", "-c", closed], check=False).returncode == 65


def test_a_reader_that_is_gone_does_not_change_the_exit_code(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-c", ENDING, str(tmp_path / "log")],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    assert (done.returncode, done.stderr) == (65, "")
