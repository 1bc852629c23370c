"""Writes the dashboards into the chart: ``python -m tools.dashboards [--check]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tools.dashboards import alignment, operator

__all__ = ["DASHBOARDS", "FOLDER", "main", "render"]

FOLDER: Final = Path(__file__).parents[2] / "charts" / "alignment-operator" / "dashboards"
DASHBOARDS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "alignment.json": alignment.build,
    "operator.json": operator.build,
}
"""Dashboards by file name."""


def render(name: str) -> str:
    """A file's text."""
    return json.dumps(DASHBOARDS[name](), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` say which are out of date."""
    stale = [
        name
        for name in DASHBOARDS
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != render(name)
    ]
    if "--check" in arguments:
        for name in stale:
            print(f"{name} differs from tools/dashboards; run `make dashboards`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(render(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
