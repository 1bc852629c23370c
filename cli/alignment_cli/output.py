"""How commands speak: JSON or YAML for machines on stdout, text for people, colours only on terminals."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

__all__ = ["Output", "console", "counted", "emit", "say", "show", "visible", "warn"]

_ENDLESS: Final = 100_000
"""Columns of what is no terminal: a file keeps every word, and who reads it searches for them."""
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal obeys or cannot be sent, but tab and line feed."""


class Output(StrEnum):
    """Forms of output."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def visible(text: str) -> str:
    """Text as a terminal may have it: names, messages and data can hold commands to it, which are shown, as JSON writes them."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@cache
def console() -> Console:
    """The one console for people. Not a terminal: no colours, no control characters, and nothing wrapped or cut."""
    from rich.console import Console
    from rich.segment import Segment

    class Visible(Console):
        """Its own colours and movements are styles and controls; whatever stands in a text is text."""

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    return Visible(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def emit(wire: Any, output: Output) -> None:
    """Print a JSON-able value for a machine."""
    if output is Output.YAML:
        import yaml

        text = yaml.safe_dump(wire, sort_keys=False, allow_unicode=True).rstrip()
    else:
        text = visible(json.dumps(wire, indent=2, ensure_ascii=False))
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """Print a line for a person beside what machines read: on standard error, at once."""
    sys.stderr.write(f"align: {visible(text)}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """Print a line for a person."""
    console().print(visible(text), markup=False)


def show(picture: RenderableType) -> None:
    """Print a table or a story; where it is not a terminal, without the blanks that fill its lines."""
    if sys.stdout.isatty():
        console().print(picture)
        return
    with console().capture() as captured:
        console().print(picture)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().removesuffix("\n").split("\n")))
