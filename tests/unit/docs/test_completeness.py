"""Everything a person can meet has its entry: reasons, exit codes, verbs, fields; generated pages are up to date."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.docsgen.__main__ import DOCS, PAGES, render
from tools.docsgen.commands import verbs

from alignment_api.conditions import Reason
from alignment_api.exitcodes import AlignExit, StageExit
from support.documents import ROOT, pages

TROUBLE = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_generated_pages_are_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == render(page), "run `make docs-pages`"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_a_condition_has_an_entry(reason: Reason) -> None:
    assert re.search(rf"^### {reason}$", TROUBLE, re.MULTILINE), (
        f"docs/troubleshooting.md needs a section '### {reason}': what it means and what to do"
    )


def test_every_section_is_about_a_reason_that_exists() -> None:
    assert set(re.findall(r"^### (\w+)$", TROUBLE, re.MULTILINE)) == set(Reason)


@pytest.mark.parametrize("code", StageExit, ids=lambda code: str(code.value))
def test_every_exit_code_of_a_stage_has_an_entry(code: StageExit) -> None:
    assert f"\n| {code.value} |" in TROUBLE


@pytest.mark.parametrize("code", AlignExit, ids=lambda code: str(code.value))
def test_every_exit_code_of_align_has_an_entry(code: AlignExit) -> None:
    assert f"\n| {code.value} |" in (DOCS / "cli.md").read_text(encoding="utf-8")


def test_every_verb_has_an_entry_with_a_sentence() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, command in verbs():
        assert f"\n## {name}\n" in page
        assert command.help, f"{name} has no docstring"
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name} has no help"


def failure_reasons() -> Iterator[tuple[str, str]]:
    """Reasons that a stage or the operator may give for a failure, with the file that gives them."""
    for root in ("trainer", "operator"):
        for path in sorted((ROOT / root).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    for keyword in node.keywords:
                        if keyword.arg == "reason":
                            yield from _words(keyword.value, path)
                if (
                    isinstance(node, ast.AnnAssign)
                    and getattr(node.target, "id", "") == "default_reason"
                    and node.value
                ) or (
                    isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "default_reason"
                ):
                    yield from _words(node.value, path)


def _words(node: ast.expr, path: Path) -> Iterator[tuple[str, str]]:
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[A-Z]\w+", node.value)
    ):
        yield node.value, str(path.relative_to(ROOT))
    if isinstance(node, ast.IfExp):
        yield from _words(node.body, path)
        yield from _words(node.orelse, path)


def test_every_reason_of_a_failure_has_an_entry() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    silent = {
        f"{reason} ({path})"
        for reason, path in failure_reasons()
        if f"`{reason}`" not in text and reason not in set(Reason)
    }
    assert silent - {f"{name} (trainer/alignment_trainer/errors.py)" for name in ("StageFailed",)} == set(), (
        "give each a row in docs/troubleshooting.md, or on the page of its area"
    )


def test_every_entry_is_about_a_reason_that_somebody_gives() -> None:
    words = {
        node.value
        for root in ("trainer", "operator", "api")
        for path in (ROOT / root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for page in ("troubleshooting.md", "storage.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for row in re.findall(r"^\| (\*?`[A-Z]\w+`.*?) \|", text, re.MULTILINE):
            for reason in re.findall(r"`(\w+)`", row):
                assert reason in words, f"docs/{page}: nobody gives {reason}"


def test_the_map_of_the_architecture_leads_to_files_that_exist() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+\? \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        # The first is named from the top, those beside it from wherever they stand together.
        first, *others = re.findall(r"`([\w-]+/[\w./-]+|[\w-]+\.\w+)`", row) or [""]
        assert (ROOT / first).exists(), row
        for other in others:
            assert any((place / other).exists() for place in ((ROOT / first), *(ROOT / first).parents)), row


def test_the_site_lists_every_page_once() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == {path.name for path in DOCS.glob("*.md")} | {"adr/README.md"}


def test_no_page_tells_where_it_was_written() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert "/work/" not in text, page
        assert "TODO" not in text, page
