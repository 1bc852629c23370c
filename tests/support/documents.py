"""What stands in code blocks of the documentation: cut out, so that tests can check and run it."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.crd_cases import minimal

__all__ = ["ROOT", "Block", "blocks", "commands", "manifest_of", "pages"]

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block. place: file and line, for messages."""

    place: str
    language: str
    text: str


def pages() -> list[Path]:
    """Every page that people read, decisions and the files at the top included."""
    found = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(found)


def blocks(language: str, page: Path | None = None) -> list[Block]:
    """Blocks of a language, in all pages or in one."""
    found = []
    for path in [page] if page else pages():
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match["language"] == language:
                line = text[: match.start()].count("\n") + 1
                found.append(Block(f"{path.relative_to(ROOT)}:{line}", language, match["text"]))
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """Commands of a shell block, without comments, redirections and what runs behind a pipe."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;<>()"):
                break
            words.append(word)
        if words:
            yield words


def manifest_of(document: dict[str, Any]) -> dict[str, Any]:
    """A whole manifest from a document that may be only a part of one: the rest is taken from the smallest."""
    if "apiVersion" in document:
        return document
    out = minimal()
    _merge(out, copy.deepcopy(document))
    return out


def _merge(base: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
