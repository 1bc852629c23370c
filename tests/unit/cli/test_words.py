"""What a person reads when a command is mistyped or interrupted: one sentence, the right exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alignment_api.exitcodes import AlignExit
from alignment_cli import main as entry
from alignment_cli.errors import CommandError


def align(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alignment_cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stat"], "No such command 'stat'. Did you mean 'status'?"),
        (["status", "--nope"], "No such option: --nope"),
        (["status"], "Missing argument"),
        (["gate", "plan"], "Missing option '--holdout'. `align gate plan --help` shows"),
        (["gate", "plan", "--holdout", "0"], "greater than or equal to 2. `align"),
        (["gate", "plan", "--holdout", "10", "--groups", "20"], "10 pairs cannot come from 20 groups"),
        (["list", "-o", "xml"], "'xml' is not one of"),
    ],
)
def test_a_mistyped_command_is_answered_in_one_line(arguments: list[str], words: str) -> None:
    done = align(*arguments)
    assert done.returncode == AlignExit.REQUEST_INVALID
    assert words in done.stderr
    assert "--help" in done.stderr or "give at most" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "defect" not in done.stderr
    assert done.stdout == ""


def test_the_version_is_the_one_that_is_installed() -> None:
    from importlib.metadata import version

    done = align("--version")
    assert (done.returncode, done.stdout) == (0, f"align {version('alignment-operator')}\n")


def test_a_group_without_a_verb_shows_its_help() -> None:
    done = align("alias")
    assert done.returncode == AlignExit.REQUEST_INVALID
    assert done.stderr.startswith("Usage: align alias")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), AlignExit.INTERRUPTED),
        (CommandError("no such thing; do that"), AlignExit.REQUEST_INVALID),
        (RuntimeError("broken"), AlignExit.OTHER),
    ],
    ids=["interrupt", "command error", "defect"],
)
def test_every_way_to_end_has_its_exit_code(
    raised: BaseException,
    code: AlignExit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def verb(**_options: object) -> None:
        raise raised

    monkeypatch.setattr(entry, "app", verb)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith("align: ")
