"""What a person reads when a command is mistyped or interrupted: one sentence, the right exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


WITHOUT = """import sys
class Absent:
    def find_spec(name, *_):
        if name.partition('.')[0] == {package!r}:
            raise ModuleNotFoundError(f'No module named {{name}}', name=name)
sys.meta_path.insert(0, Absent)
sys.argv = ['align', *{arguments!r}]
from alignment_cli.main import main
main()"""


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("numpy", ["data", "check", "rows.jsonl"], "data"),
        ("boto3", ["gc", "s3://artifacts/"], "data"),
    ],
)
def test_what_is_not_installed_is_said_with_the_line_that_installs_it(
    package: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"preference": 1}\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package, arguments=arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == AlignExit.OTHER
    assert f"({package} is missing): pip install 'alignment-operator[{extra}]'" in done.stderr
    assert "defect" not in done.stderr


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
