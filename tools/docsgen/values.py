"""The page of the chart's values, from the comments of ``values.yaml``: every key with its default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["keys", "page"]

_VALUES: Final = Path(__file__).parents[2] / "charts" / "alignment-operator" / "values.yaml"
_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: +(?P<value>.*))?$")
_INTRO: Final = """# Chart values

Every value of the Helm chart. An unknown or misspelt key is refused with its name. [Installation](install.md) has the ones
that matter first.

| value | default | what it does |
|---|---|---|
"""


def keys(text: str) -> Iterator[tuple[str, str, str]]:
    """Path, default as written and comment of every key that has a value of its own.

    A comment belongs to the key below it; what it says of a group is repeated at none of the group's keys, so a group
    with a comment is a row as well.
    """
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        match = _KEY.match(line)
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif match:
            depth = len(match["indent"]) // 2
            path = [*path[:depth], match["key"]]
            if match["value"] is not None or comment:
                yield ".".join(path), match["value"] or "", " ".join(comment)
            comment = []
        else:
            comment = []


def page() -> str:
    """The whole page as Markdown."""
    rows = []
    for path, default, sentence in keys(_VALUES.read_text(encoding="utf-8")):
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{path}` | {shown} | {sentence.replace('|', chr(92) + '|')} |")
    return _INTRO + "\n".join(rows) + "\n"
