"""What data, names and messages hold reaches a terminal as text: it obeys nothing but our own colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
import yaml

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.status import AlignmentRunStatus, Condition
from alignment_cli import main as entry
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, console, emit, say, show, visible, warn
from alignment_cli.view import run_story, runs_table
from support import runs

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \x7f \r"
SHOWN = r"\u001b[2J\u001b]0;owned\u0007 \u009b31m \u007f \u000d"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A console that writes colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.cache_clear()
    yield
    console.cache_clear()


def obeyed(text: str) -> set[str]:
    """What a terminal would do with it beside writing: colours, whole, and whatever else there is."""
    colours = re.compile(r"\x1b\[[\d;]*m")
    return {*colours.findall(text), *re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", colours.sub("", text))}


def test_lines_warnings_and_errors_show_what_a_terminal_would_obey(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(**_options: object) -> None:
        raise CommandError(HOSTILE)

    monkeypatch.setattr(entry, "app", verb)
    say(HOSTILE)
    warn(HOSTILE)
    with pytest.raises(SystemExit):
        entry.main()
    out, error = capsys.readouterr()
    assert (out, error) == (f"{SHOWN}\n", f"align: {SHOWN}\n" * 2)


def test_a_run_is_told_in_our_colours_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Condition(
        type=ConditionType.SUCCEEDED,
        status=ConditionStatus.FALSE,
        reason=Reason.STAGE_FAILED,
        message=HOSTILE,
        last_transition_time=runs.START,
    )
    status = AlignmentRunStatus(conditions=(failed,), headline=HOSTILE)
    run = runs.run().model_copy(update={"status": status})
    for picture in (run_story(run), runs_table([run])):
        show(picture)
        out = capsys.readouterr().out
        assert r"\u001b[2J\u001b]0" in out
        assert "\x1b[31mStageFailed\x1b[0m" in out
        assert obeyed(out) <= {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m"}


@pytest.mark.parametrize(("form", "read"), [(Output.JSON, json.loads), (Output.YAML, yaml.safe_load)])
def test_machines_read_what_was_meant(
    form: Output, read: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    emit({"text": HOSTILE}, form)
    out = capsys.readouterr().out
    assert not obeyed(out)
    assert read(out) == {"text": HOSTILE}


def test_a_name_that_is_not_unicode_can_be_printed() -> None:
    assert visible("caf\udce9\tü\n").encode() == b"caf\\udce9\t\xc3\xbc\n"
