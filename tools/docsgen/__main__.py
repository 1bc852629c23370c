"""Writes the generated pages: ``python -m tools.docsgen [--check]``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.docsgen import commands, metrics, reference, schema, values

__all__ = ["DOCS", "PAGES", "main", "render"]

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGES: Final[dict[str, Callable[[], str]]] = {
    "reference.md": reference.page,
    "cli.md": commands.page,
    "metrics.md": metrics.page,
    "values.md": values.page,
    "report.schema.json": schema.page,
}
"""Generated pages by file name. A new one is a function that returns Markdown and a row here."""


def render(name: str) -> str:
    """A page's text."""
    if name.endswith(".json"):
        return PAGES[name]()
    return f"<!-- Generated from the code by `make docs-pages`. Do not edit. -->\n\n{PAGES[name]()}"


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say which are out of date."""
    stale = [
        name
        for name in PAGES
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != render(name)
    ]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/{name} differs from the code; run `make docs-pages`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(render(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
