"""The page of ``align``'s verbs, from the application itself: synopsis, sentence and options of each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import typer

from alignment_api.exitcodes import ALIGN_SENTENCES, AlignExit
from alignment_cli.main import app

__all__ = ["page", "verbs"]

_INTRO: Final = """# Command line

`align` works on runs of this machine and of a cluster with the same verbs. It is also installed as `kubectl-align`, so
that `kubectl align …` works wherever kubectl does.

**Where runs are looked for.** `--state DIR` means the state folder of this machine, `--namespace` and `--context` a
cluster. Without either, `kubectl align` means the cluster of your kubectl; `align` means this machine when there is a folder
`./.align`, else that cluster. What deletes says the place before and after.

**Shell completion.** `align --install-completion` sets it up for the shell you are in. Verbs, options, values and names of
runs complete. For `kubectl align` nothing is to be done: kubectl finds `kubectl_complete-align`, which is installed too.

**Colours** appear on terminals only, and never with `NO_COLOR` set. `-o json` and `-o yaml` print for machines, on
standard output; errors are one message on standard error. `ALIGN_TRACEBACK=1` shows where a defect of align itself lies,
`align --version` which release it is.
"""


def verbs(group: Any = None, prefix: str = "align") -> Iterator[tuple[str, Any]]:
    """All verbs with their full names, in the order of ``--help``."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"{prefix} {name}", command


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRO, "## Exit codes\n", "| code | means |", "|---|---|"]
    parts += [f"| {code.value} | {ALIGN_SENTENCES[code]} |" for code in AlignExit]
    parts.append("")
    for name, command in verbs():
        parts += _verb(name, command)
    return "\n".join(parts).rstrip() + "\n"


def _verb(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    synopsis = " ".join([name, *(_argument(a) for a in arguments), *(["[options]"] if options else [])])
    parts = [f"## {name}\n", f"```text\n{synopsis}\n```\n", f"{inspect.cleandoc(command.help or '')}\n"]
    described = [(f"`{_argument(a)}`", a.help or "") for a in arguments] + [_option(o) for o in options]
    if described:
        parts += ["| option | what it does |", "|---|---|"]
        parts += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in described]
        parts.append("")
    return parts


def _argument(argument: Any) -> str:
    word = argument.name.upper().replace("_", "-") + ("…" if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _option(option: Any) -> tuple[str, str]:
    names = ", ".join([*option.opts, *option.secondary_opts])
    words = [option.help or "", "Required." if option.required else ""]
    default = getattr(option.default, "value", option.default)
    if default not in (None, False, True, ()) and not option.required:
        words.append(f"Default `{default}`.")
    return f"`{names}{_value(option)}`", " ".join(word for word in words if word)


def _value(option: Any) -> str:
    if option.is_flag:
        return ""
    described = option.type_descriptor
    choices = getattr(described, "choices", None)
    if choices:
        return " " + "|".join(str(choice.value) for choice in choices)
    kind = str(described.annotation.__name__).lower()
    return " " + (option.metavar or {"int": "NUMBER", "float": "NUMBER", "path": "PATH"}.get(kind, "TEXT"))
