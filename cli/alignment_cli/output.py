"""How commands speak: JSON or YAML for machines on stdout, text for people, colours only on terminals."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Output", "console", "counted", "emit", "say", "show", "warn"]

_ENDLESS: Final = 100_000
"""Columns of what is no terminal: a file keeps every word, and who reads it searches for them."""


class Output(StrEnum):
    """Forms of output."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


@cache
def console() -> Console:
    """The one console for people. Not a terminal: no colours, no control characters, and nothing wrapped or cut."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def emit(wire: Any, output: Output) -> None:
    """Print a JSON-able value for a machine."""
    if output is Output.YAML:
        import yaml

        text = yaml.safe_dump(wire, sort_keys=False, allow_unicode=True).rstrip()
    else:
        text = json.dumps(wire, indent=2, ensure_ascii=False)
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """Print a line for a person beside what machines read: on standard error, at once."""
    sys.stderr.write(f"align: {text}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """Print a line for a person."""
    console().print(text, markup=False)


def show(picture: RenderableType) -> None:
    """Print a table or a story; where it is not a terminal, without the blanks that fill its lines."""
    if sys.stdout.isatty():
        console().print(picture)
        return
    with console().capture() as captured:
        console().print(picture)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().removesuffix("\n").split("\n")))
