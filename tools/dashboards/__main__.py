"""Writes the dashboards into the chart: ``python -m tools.dashboards [--check]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from tools.dashboards import alignment, operator
from tools.generated import main

__all__ = ["DASHBOARDS", "FOLDER", "render"]

FOLDER: Final = Path(__file__).parents[2] / "charts" / "alignment-operator" / "dashboards"
DASHBOARDS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "alignment.json": alignment.build,
    "operator.json": operator.build,
}
"""Dashboards by file name."""


def render(name: str) -> str:
    """A file's text."""
    return json.dumps(DASHBOARDS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    files = {FOLDER / name: partial(render, name) for name in DASHBOARDS}
    sys.exit(main(files, "make dashboards", sys.argv[1:]))
