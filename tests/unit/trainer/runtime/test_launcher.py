"""PID 1 of a node that trains with several processes, with shell scripts in the place of the training."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment_trainer.errors import Stopped
from alignment_trainer.runtime import launcher
from alignment_trainer.runtime.crew import Crew
from alignment_trainer.runtime.launcher import Ended, launch, wait_for_address

DEAF = "trap '' TERM; touch ready-$ALIGNMENT_LOCAL_RANK; exec sleep 60"
"""As a process that waits in a collective: signals reach it, nobody looks at them."""

WORKS = "touch ready-$ALIGNMENT_LOCAL_RANK; while :; do sleep 0.1; done"
BOTH = ("ready-0", "ready-1")


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Launch two processes with these scripts and tell PID 1 to stop once these files are there."""
    monkeypatch.chdir(tmp_path)

    def start(first: str, second: str, *files: str) -> Ended:
        for local, script in enumerate((first, second)):
            (tmp_path / f"{local}.sh").write_text(script)
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexec sh $ALIGNMENT_LOCAL_RANK.sh\n")
        python.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(python))
        stop = threading.Event()

        def tell() -> None:
            while not all((tmp_path / file).exists() for file in files):
                time.sleep(0.01)  # a file of another process has no event to wait for
            stop.set()

        threading.Thread(target=tell, daemon=True).start()
        return launch([], Crew(processes=2), tmp_path, stop)

    return start


def test_a_process_that_does_not_hear_is_killed_and_counts_as_stopped(
    launched: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.3)
    ended = launched(DEAF, DEAF, *BOTH)
    assert ended.code == 143
    assert isinstance(ended.word, Stopped)
    assert "was killed; the next attempt goes on from the last checkpoint" in ended.word.message


def test_a_process_that_the_kernel_kills_while_it_stops_is_out_of_memory(
    launched: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 1.5)
    ended = launched(f"trap 'kill -9 $$' TERM; {WORKS}", DEAF, *BOTH)
    assert ended.code == 137
    assert not isinstance(ended.word, str)
    assert ended.word is not None
    assert ended.word.reason == "OutOfMemory"


def test_who_ends_on_its_own_gives_the_others_no_more_time(
    launched: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 2.0)
    began = time.monotonic()
    assert launched(f"trap 'sleep 1.5; exit 143' TERM; {WORKS}", DEAF, *BOTH).code == 143
    assert time.monotonic() - began < 3, "two seconds from the signal, not from the first end"


def test_a_stop_while_others_are_ended_does_not_prolong_it(
    launched: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "PEER_SECONDS", 1.0)
    monkeypatch.setattr(launcher, "STOP_SECONDS", 20.0)
    began = time.monotonic()
    fails = "while [ ! -e ready-1 ]; do sleep 0.05; done; touch failed; exit 65"
    assert launched(fails, DEAF, "failed").code == 65
    assert time.monotonic() - began < 10


def test_waiting_for_node_0_ends_when_told_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped, match="nothing was trained"):
        wait_for_address("nowhere.invalid", stop, seconds=60)
