"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alignment_cli.output import Output

__all__ = ["Context", "Name", "Namespace", "OutputOption", "State"]

Name = Annotated[str, typer.Argument(help="Name of the run.", show_default=False)]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="State folder of runs on this machine (default ./.align)."),
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of a run on a cluster.")]
Context = Annotated[str | None, typer.Option("--context", help="kubectl context of the cluster.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")]
