"""What the documentation shows is true: manifests are valid, commands exist with these options, data can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from alignment_api.names import GROUP
from alignment_api.run import AlignmentRun
from alignment_cli.main import app
from support.documents import ROOT, Block, blocks, commands, manifest_of

YAML = blocks("yaml")
SHELL = [*blocks("sh"), *blocks("bash")]
MAKEFILES = [ROOT / "Makefile", *(ROOT / "tools" / "make").glob("*.mk")]
TARGETS = {
    match
    for path in MAKEFILES
    for match in re.findall(r"^([a-z][a-z0-9-]*):", path.read_text(encoding="utf-8"), re.MULTILINE)
}
LINES = [(block.place, words) for block in SHELL for words in commands(block)]


def align(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alignment_cli.main", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def named(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", YAML, ids=named)
def test_manifests_are_valid(block: Block) -> None:
    documents = [document for document in yaml.safe_load_all(block.text) if document is not None]
    assert documents, block.place
    for document in documents:
        if str(document.get("apiVersion", GROUP)).startswith(GROUP) and set(document) <= {
            "apiVersion",
            "kind",
            "metadata",
            "spec",
        }:
            AlignmentRun.model_validate(manifest_of(document))
        elif "kind" in document:
            assert {"apiVersion", "kind", "metadata"} <= set(document), block.place


@pytest.mark.parametrize("block", blocks("json"), ids=named)
def test_json_can_be_read(block: Block) -> None:
    if block.text.lstrip().startswith("{\n"):
        json.loads(block.text)
    else:
        for line in block.text.splitlines():
            json.loads(line)


@pytest.mark.parametrize(("place", "words"), LINES, ids=[f"{place} {' '.join(w)[:60]}" for place, w in LINES])
def test_commands_exist_with_these_options(place: str, words: list[str]) -> None:
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        assert set(targets) <= TARGETS, f"{place}: {words}"
    if words[:2] == ["kubectl", "align"]:
        words = words[1:]
    if words[0] != "align":
        return
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{place}: align {' '.join(words[1:])}"
        command = command.commands[rest.pop(0)]
    if not hasattr(command, "commands"):
        command.make_context(words[1], [*rest])  # raises for what it does not know


def test_the_converter_for_csv_works_on_what_a_spreadsheet_writes(tmp_path: Path) -> None:
    (converter,) = blocks("python", ROOT / "docs" / "data.md")
    (tmp_path / "convert.py").write_text(converter.text, encoding="utf-8")
    rows = (
        'prompt,chosen,rejected,group\r\n"Note, please","Two\r\nlines","It\'s ""one""",p1\r\nhello,hi,yo,\r\n'
        f"{'a long record ' * 10_000},hi,yo,\r\n"
    )
    (tmp_path / "rows.csv").write_text(rows, encoding="utf-8-sig", newline="")
    refused = align("data", "check", "rows.csv", folder=tmp_path)
    assert (refused.returncode, "docs/data.md" in refused.stderr) == (65, True)
    made = subprocess.run(
        [sys.executable, "convert.py", "rows.csv"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (tmp_path / "rows.jsonl").write_text(made.stdout, encoding="utf-8")
    assert json.loads(made.stdout.splitlines()[0]) == {
        "prompt": "Note, please",
        "chosen": "Two\r\nlines",
        "rejected": 'It\'s "one"',
        "group": "p1",
    }
    checked = align("data", "check", "rows.jsonl", "-o", "json", folder=tmp_path)
    assert json.loads(checked.stdout)["funnel"]["pairs"] == 3, checked.stderr


def test_the_converter_for_openai_exports_works(tmp_path: Path) -> None:
    page = ROOT / "docs" / "migration.md"
    (converter,) = blocks("python", page)
    (row,) = (block for block in blocks("json", page) if "preferred_output" in block.text)
    (tmp_path / "convert.py").write_text(converter.text, encoding="utf-8")
    (tmp_path / "export.jsonl").write_text(row.text, encoding="utf-8")
    (tmp_path / "index.json").write_text('{"1": {"group": "patient-7"}}', encoding="utf-8")
    made = subprocess.run(
        [sys.executable, "convert.py", "export.jsonl", "index.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (tmp_path / "pairs.jsonl").write_text(made.stdout, encoding="utf-8")
    checked = align("data", "check", "pairs.jsonl", "-o", "json", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["funnel"]["pairs"] == 1
    assert json.loads(made.stdout)["group"] == "patient-7"
