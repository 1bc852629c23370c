"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alignment_cli.errors import CommandError
from alignment_cli.output import Output

__all__ = ["Context", "Endpoint", "Name", "Namespace", "OutputOption", "State"]


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


Name = Annotated[str, typer.Argument(help="Name of the run.", show_default=False, autocompletion=_names)]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="State folder of runs on this machine (default ./.align)."),
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of a run on a cluster.")]
Context = Annotated[str | None, typer.Option("--context", help="kubectl context of the cluster.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="Endpoint of an S3-compatible store, e.g. a forwarded port.")
]
