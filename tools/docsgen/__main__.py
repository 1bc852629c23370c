"""Writes the generated pages: ``python -m tools.docsgen [--check]``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tools.docsgen import commands, metrics, reference, schema, values
from tools.generated import main

__all__ = ["DOCS", "PAGES", "render"]

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


if __name__ == "__main__":
    files = {DOCS / name: partial(render, name) for name in PAGES}
    sys.exit(main(files, "make docs-pages", sys.argv[1:]))
