"""``align data check``: what prepare would make of sources, without a run, a model or any change."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from alignment_cli.commands.options import OutputOption
from alignment_cli.output import Output, console, emit, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    data = typer.Typer(help="Look at preference data without changing it.", no_args_is_help=True)
    data.command("check")(check)
    app.add_typer(data, name="data")


def check(
    uris: Annotated[
        list[str], typer.Argument(help="Sources: URIs, globs or local paths.", show_default=False)
    ],
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Endpoint of an S3-compatible store.")
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            "--quarantine", metavar="FILE", help="Write every row left out: source, line, reason, sentence."
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Read sources as prepare would and say what it would make of them; changes nothing.

    Needs no model: lengths in tokens and special tokens are checked by a run. Exit code 65 for invalid rows over the limit.
    """
    from alignment_api.spec import DataSource, DataSpec, StorageSpec
    from alignment_cli.stores import open_stores, trainer_errors
    from alignment_cli.view import funnel

    stores = open_stores(StorageSpec(endpoint=endpoint))
    spec = DataSpec(sources=tuple(DataSource(uri=_as_uri(uri)) for uri in uris))
    with trainer_errors(), tempfile.TemporaryDirectory() as folder:
        from alignment_trainer.data.assemble import Assembly, assemble
        from alignment_trainer.data.limits import refuse_too_many_invalid

        found = assemble(spec, Assembly(store=stores, scratch=Path(folder)))
        if quarantine is not None:
            found.account.write_quarantine(quarantine)
        faults = dict(found.account.invalid.most_common())
        if output is not Output.TEXT:
            wire = {
                "funnel": found.funnel.to_wire(),
                "invalid": faults,
                "examples": found.account.places,
                "statistics": found.tally.to_wire(),
            }
            emit(wire, output)
        else:
            console().print(funnel(found.funnel))
            for code, count in faults.items():
                say(f"        {count} × {code}, e.g. {', '.join(found.account.places[code])}")
        refuse_too_many_invalid(found.account, spec)


def _as_uri(text: str) -> str:
    """A URI as given, or a local path as one."""
    return text if "://" in text else "file://" + str(Path(text).absolute())
