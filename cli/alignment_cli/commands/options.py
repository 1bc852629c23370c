"""Options that several commands share."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from alignment_api.exitcodes import AlignExit
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, visible

__all__ = [
    "Context",
    "Endpoint",
    "Name",
    "Namespace",
    "OutputOption",
    "State",
    "Yes",
    "as_folder",
    "as_folders",
    "as_uri",
    "make_sure",
]


def _names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of runs that begin with what was typed; none where runs cannot be listed: completion stays silent."""
    from alignment_cli.backend import choose

    given = {key: ctx.params.get(key) for key in ("state", "namespace", "context")}
    try:
        names = choose(
            Path(given["state"]) if given["state"] else None, given["namespace"], given["context"]
        ).names()
    except CommandError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def as_uri(text: str) -> str:
    """A URI as given, or a local path as one; with wildcards, but for the part of it that is there by just that name."""
    if "://" in text:
        return text
    from alignment_trainer.storage.uris import quoted

    path = os.path.abspath(text)  # noqa: PTH100  resolve() would follow links, and what is named is the link
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)  # noqa: PTH120
    return "file://" + quoted(os.fsencode(there)) + quoted(os.fsencode(path[len(there) :]), glob=True)


def as_folder(text: str) -> str:
    """The URI of a folder, which ends with ``/``, from a URI or a local path; an empty variable of a script is neither."""
    if not text.strip():
        raise typer.BadParameter("it is empty; give a URI or a path.")
    return as_uri(text).rstrip("/") + "/"


def as_folders(texts: list[str] | None) -> list[str] | None:
    """As :func:`as_folder`, for an option that may be given several times."""
    return [as_folder(text) for text in texts] if texts else texts


def make_sure(question: str, *, yes: bool) -> None:
    """Ask before something is gone for good, beside what machines read. yes: it was said beforehand; a script must say it.

    Raises CommandError where nobody can be asked, typer.Exit where they do not want it.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} There is no terminal to ask on; --yes says so beforehand.")
    # Not typer's err=True: it leaves the last blank of the question on standard output, and YAML does not bear it.
    with contextlib.redirect_stdout(sys.stderr):
        sure = typer.confirm(visible(question))
    if not sure:
        raise typer.Exit(AlignExit.OTHER)


Name = Annotated[str, typer.Argument(help="Name of the run.", show_default=False, autocompletion=_names)]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="State folder of runs on this machine (default ./.align)."),
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of a run on a cluster.")]
Context = Annotated[str | None, typer.Option("--context", help="kubectl context of the cluster.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal to ask on.")
]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="Endpoint of an S3-compatible store, e.g. a forwarded port.")
]
