"""How commands speak: JSON or YAML for machines on stdout, text for people, colours only on terminals."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "console", "counted", "emit", "say"]


class Output(StrEnum):
    """Forms of output."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


@cache
def console() -> Console:
    """The one console for people. Not a terminal: no colours, no bars, no control characters, full width."""
    from rich.console import Console

    plain = not sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=plain, width=120 if plain else None)


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


def say(text: str) -> None:
    """Print a line for a person."""
    console().print(text, markup=False)
