"""Files that code writes: brings them up to date, or says which are not. The command line of every generator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["main"]


def main(files: Mapping[Path, Callable[[], str]], command: str, arguments: list[str]) -> int:
    """Write the files whose text has changed; with ``--check`` write nothing, name them and return 1.

    command: what a person runs to have them written.
    """
    stale = {}
    for path, text in files.items():
        wanted = text()
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale[path] = wanted
    if "--check" in arguments:
        for path in stale:
            print(f"{path.name} is not what the code says; run `{command}`", file=sys.stderr)
        return 1 if stale else 0
    for path, wanted in stale.items():
        path.write_text(wanted, encoding="utf-8")
    return 0
