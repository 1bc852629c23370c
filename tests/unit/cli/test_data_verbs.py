"""``align data check``, ``trace``, ``erase`` and ``gc``, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from alignment_cli.errors import CommandError
from alignment_cli.main import app
from alignment_trainer.data.stage import run as prepare
from alignment_trainer.runtime.results import store_result
from alignment_trainer.storage.registry import Stores
from support.preparing import context, edit, pair, write_rows


def align(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def wire(result: Result) -> Any:
    return json.loads(result.stdout)


# data check


def test_a_check_tells_the_funnel_and_changes_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl.gz", [pair(n) for n in range(30)] + [pair(1)])
    before = sorted(tmp_path.rglob("*"))
    done = align("data", "check", str(tmp_path / "*.jsonl.gz"))
    assert done.exit_code == 0, done.output
    assert "31 rows → 30 pairs" in done.stdout
    assert "1 duplicates" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_check_for_programs_has_counts_places_and_statistics(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [pair(n, cohort="north") for n in range(200)] + ["no json"])
    done = align("data", "check", str(tmp_path / "rows.jsonl"), "-o", "json")
    assert done.exit_code == 0, done.output
    said = wire(done)
    assert (said["funnel"]["rows"], said["invalid"]) == (201, {"NotJson": 1})
    assert said["examples"]["NotJson"] == [(tmp_path / "rows.jsonl").as_uri() + ":201"]
    assert sum(said["statistics"]["cohorts"]["north"].values()) == 200


@pytest.mark.parametrize("output", ["text", "json"])
def test_too_many_invalid_rows_are_exit_code_65_with_reasons_and_places(tmp_path: Path, output: str) -> None:
    write_rows(tmp_path / "rows.jsonl", [pair(1), "no json", pair(2, weight=-1)])
    done = align("data", "check", str(tmp_path / "rows.jsonl"), "-o", output)
    assert isinstance(done.exception, CommandError)
    assert done.exception.exit_code == 65
    assert "1 × NotJson" in done.exception.message
    assert "rows.jsonl:3" in done.exception.message
    assert done.stdout
    if output == "json":
        assert wire(done)["funnel"]["invalid"] == 2


def test_every_row_left_out_can_be_had_in_a_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [pair(n) for n in range(200)] + [pair(1), "no json"])
    file = tmp_path / "left-out.jsonl"
    assert align("data", "check", str(tmp_path / "rows.jsonl"), "--quarantine", str(file)).exit_code == 0
    left = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(row["line"], row["reason"]) for row in left] == [(201, "duplicate"), (202, "NotJson")]


def test_a_check_says_what_is_wrong_in_a_sentence_and_where(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [pair(n) for n in range(600)] + [{"question": "a", "answer": "b"}])
    out = align("data", "check", str(tmp_path / "rows.jsonl")).stdout
    assert "1 × FormatUnknown: no format knows any of the row's fields; docs/data.md" in out
    assert f"{(tmp_path / 'rows.jsonl').as_uri()}:601" in out


def test_a_check_says_that_a_run_wants_more_pairs_and_what_to_ask_next(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [pair(n) for n in range(60)])
    out = align("data", "check", str(tmp_path / "rows.jsonl")).stdout
    assert "note: a run wants 500 pairs" in out
    command = out.partition("Next:   align ")[2].partition(" says")[0].split()
    assert command[:2] == ["gate", "plan"]
    assert align(*command).exit_code == 0


# trace and erase


@pytest.fixture
def artifacts(tmp_path: Path) -> str:
    rows = [edit(n, actor=f"nurse{n % 3}") for n in range(40)]
    data = {"sources": [{"uri": write_rows(tmp_path / "rows.jsonl", rows)}], "holdout": {"fraction": 0.3}}
    work = context(tmp_path, tmp_path / "scratch", **data)
    store_result(work.request, prepare(work), Stores()(work.request.folder))
    return work.request.spec.artifacts.uri


def test_a_trace_names_snapshot_side_place_and_event(artifacts: str, tmp_path: Path) -> None:
    done = align("trace", "e7", "--artifacts", artifacts)
    assert done.exit_code == 0, done.output
    assert "1 snapshot searched, held in 1; 0 published versions learned from it." in done.stdout
    assert f"{(tmp_path / 'rows.jsonl').as_uri()}:8" in done.stdout
    assert wire(align("trace", "nurse1", "--artifacts", artifacts, "-o", "json"))["runs"][0]["pairs"]
    assert (
        wire(align("trace", "nurse1", "--artifacts", artifacts, "--kind", "group", "-o", "json"))["runs"]
        == []
    )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("../rows.jsonl", "rows.jsonl"),
        ("./../work/./my notes.jsonl", "work/my notes.jsonl"),
        ("*notes.jsonl", "work/my notes.jsonl"),
        ("../**/my?notes.jsonl", "work/my notes.jsonl"),
        ("n[1].jsonl", "work/n[1].jsonl"),
        ("n[2].jsonl", "work/n2.jsonl"),
        ("../d[1]/*.jsonl", "d[1]/rows.jsonl"),
        ("a%20b#é.jsonl", "work/a%20b#é.jsonl"),
    ],
)
def test_sources_may_be_named_by_local_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, named: str
) -> None:
    (tmp_path / named).parent.mkdir(exist_ok=True)
    write_rows(tmp_path / named, [pair(n) for n in range(60)])
    (tmp_path / "work").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "work")
    done = align("data", "check", given, "-o", "json")
    assert done.exit_code == 0, done.output
    assert wire(done)["funnel"]["rows"] == 60


def test_artifacts_may_be_named_by_a_local_path(artifacts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(artifacts.removeprefix("file://"))
    monkeypatch.chdir(folder.parent)
    said = align("trace", "e7", "--artifacts", artifacts).stdout
    for place in (
        artifacts.rstrip("/"),
        str(folder),
        folder.name,
        f"../{folder.parent.name}/./{folder.name}/",
    ):
        assert align("trace", "e7", "--artifacts", place).stdout == said


@pytest.mark.parametrize(
    "verb", [["trace", "e7", "--artifacts", ""], ["gc", " "], ["erase", "e7", "--artifacts", "", "--yes"]]
)
def test_an_empty_variable_names_no_folder(verb: list[str]) -> None:
    done = align(*verb)
    assert done.exit_code == 2
    assert "it is empty" in done.output


def test_nothing_is_erased_where_nobody_can_be_asked(artifacts: str) -> None:
    before = align("trace", "nurse1", "--artifacts", artifacts).stdout
    done = CliRunner().invoke(app, ["erase", "nurse1", "--artifacts", artifacts], input="y\n")
    assert isinstance(done.exception, CommandError)
    assert "--yes" in done.exception.message
    assert align("trace", "nurse1", "--artifacts", artifacts).stdout == before


def test_a_dry_run_erases_nothing(artifacts: str) -> None:
    before = align("trace", "nurse1", "--artifacts", artifacts).stdout
    assert align("erase", "nurse1", "--artifacts", artifacts, "--dry-run").stdout == before
    assert align("trace", "nurse1", "--artifacts", artifacts).stdout == before


def test_an_erasure_says_what_it_did_and_a_trace_finds_no_pair_more(artifacts: str) -> None:
    done = align("erase", "nurse1", "e3", "--artifacts", artifacts, "--yes")
    assert done.exit_code == 0, done.output
    assert "Removed 14 pairs from 1 snapshot," in done.stdout
    assert f"{artifacts}exclusions.jsonl" in done.stdout
    (run,) = wire(align("trace", "nurse1", "e3", "--artifacts", artifacts, "-o", "json"))["runs"]
    assert "pairs" not in run or run["pairs"] == []
    assert run["erasedTrain"] + run["erasedHoldout"] == 14
    told = align("trace", "nurse1", "e3", "--artifacts", artifacts).stdout
    assert (
        f"{run['erasedTrain']} pairs on the train side, {run['erasedHoldout']} held out, by an earlier"
        in told
    )


@pytest.mark.parametrize("verb", ["trace", "erase"])
def test_an_unset_variable_of_a_script_erases_nobody(verb: str, artifacts: str) -> None:
    done = align(verb, "", "--artifacts", artifacts, *(["--yes"] if verb == "erase" else []))
    assert isinstance(done.exception, CommandError)
    assert done.exception.exit_code == 64
    assert "A name is empty" in str(done.exception)
    assert not (Path(artifacts.removeprefix("file://")) / "exclusions.jsonl").exists()
    assert wire(align("trace", "nurse1", "e3", "--artifacts", artifacts, "-o", "json"))["runs"][0]["pairs"]


# gc


@pytest.fixture
def expired(tmp_path: Path) -> str:
    """Artifacts of three runs without an alias, of 2 objects and 30 bytes each; the older, the higher the number."""
    for number in (1, 2, 3):
        folder = tmp_path / "artifacts" / "runs" / "team" / f"r{number}-1"
        for name, size in (("data/train.parquet", 20), ("results/prepare.json", 10)):
            path = folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x" * size)
            os.utime(path, (1e9 - number * 86400, 1e9 - number * 86400))
    return (tmp_path / "artifacts").as_uri() + "/"


def kept(artifacts: str) -> list[str]:
    return sorted(path.name for path in Path(artifacts.removeprefix("file://")).glob("runs/team/*"))


def test_gc_lists_what_is_older_than_the_retention_and_deletes_it(artifacts: str) -> None:
    assert "Would delete 0 runs" in align("gc", artifacts, "--retention-days", "30", "--dry-run").stdout
    assert "Deleted 0 runs" in align("gc", artifacts, "--retention-days", "30").stdout
    for path in Path(artifacts.removeprefix("file://")).rglob("*"):
        os.utime(path, (0, 0))
    dry = align("gc", artifacts, "--retention-days", "30", "--dry-run")
    assert "Would delete 1 run (" in dry.stdout
    assert "Deleted 1 run (" in align("gc", artifacts, "--retention-days", "30", "--yes").stdout
    assert "0 snapshots searched" in align("trace", "e1", "--artifacts", artifacts).stdout


def test_gc_deletes_nothing_where_nobody_can_be_asked(expired: str) -> None:
    done = align("gc", expired)
    assert isinstance(done.exception, CommandError)
    assert f"Delete 3 runs (6 objects, 90 bytes) below {expired}?" in done.exception.message
    assert "--yes" in done.exception.message
    assert kept(expired) == ["r1-1", "r2-1", "r3-1"]


def test_a_dry_run_of_gc_shows_what_the_call_itself_will_do(expired: str) -> None:
    dry = align("gc", expired, "--at-most", "2", "--dry-run").stdout
    assert dry.splitlines() == [
        f"{expired}runs/team/r3-1/  2 objects, 30 bytes, last written 2001-09-06",
        f"{expired}runs/team/r2-1/  2 objects, 30 bytes, last written 2001-09-07",
        "Would delete 2 runs (4 objects, 60 bytes).",
        "Left for another call (--at-most 2): 1 run.",
    ]
    assert kept(expired) == ["r1-1", "r2-1", "r3-1"]
    done = align("gc", expired, "--at-most", "2", "--yes").stdout
    assert done == dry.replace("Would delete", "Deleted")
    assert kept(expired) == ["r1-1"]


def test_gc_for_programs_says_the_same_dry_or_not(expired: str) -> None:
    dry = wire(align("gc", expired, "--at-most", "1", "--dry-run", "-o", "json"))
    assert dry == {
        "dryRun": True,
        "runs": [
            {
                "uri": f"{expired}runs/team/r3-1/",
                "objects": 2,
                "bytes": 30,
                "newest": "2001-09-06T01:46:40+00:00",
            }
        ],
        "left": 2,
    }
    assert wire(align("gc", expired, "--at-most", "1", "--yes", "-o", "json")) == dry | {"dryRun": False}


# asking


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, []), ("n", 1, ["r1-1", "r2-1", "r3-1"])])
def test_a_question_stays_out_of_what_machines_read(
    expired: str, answer: str, code: int, left: list[str]
) -> None:
    """Else ``-o yaml > file`` waits for an answer to what nobody sees, and writes no YAML."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "alignment_cli.main", "gc", expired, "-o", "yaml"],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
    ) as process:
        os.close(follower)
        os.write(leader, f"{answer}\n".encode())
        out, _ = process.communicate(timeout=60)
    assert b"Delete 3 runs (6 objects, 90 bytes)" in os.read(leader, 4096)
    os.close(leader)
    assert process.returncode == code
    assert out.startswith("dryRun: false\nruns:\n") if code == 0 else out == ""
    assert kept(expired) == left
