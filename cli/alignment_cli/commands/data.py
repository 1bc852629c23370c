"""``align data check``: what prepare would make of sources, without a run, a model or any change."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment_cli.commands.options import Endpoint, OutputOption, as_uri
from alignment_cli.output import Output, emit, say, show

if TYPE_CHECKING:
    from alignment_api.spec import DataSpec
    from alignment_api.status import Funnel

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
    endpoint: Endpoint = None,
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
    from alignment_cli.stores import open_stores, storage_at, trainer_errors
    from alignment_cli.view import funnel

    stores = open_stores(storage_at(endpoint))
    spec = _sources(uris)
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
            show(funnel(found.funnel))
            for code, count in faults.items():
                say(f"        {count} × {code}: {found.account.sentence(code)}")
                say(f"            {', '.join(found.account.places[code])}{' …' if count > 3 else ''}")
            _what_next(found.funnel, spec.minimum_pairs)
        refuse_too_many_invalid(found.account, spec)


def _what_next(found: Funnel, minimum: int) -> None:
    """What a run would do with so many pairs, and how to ask what the held-out ones can show."""
    if found.pairs < minimum:
        say(f"        note: a run wants {minimum} pairs unless its data.minimumPairs says otherwise")
    if found.holdout_groups > 1:
        plan = f"align gate plan --holdout {found.holdout} --groups {found.holdout_groups}"
        say(f"Next:   {plan} says what the held-out pairs can show")


def _sources(given: list[str]) -> DataSpec:
    from pydantic import ValidationError

    from alignment_api.spec import DataSource, DataSpec
    from alignment_cli.manifests import invalid

    try:
        return DataSpec(sources=tuple(DataSource(uri=as_uri(uri)) for uri in given))
    except ValidationError as error:
        raise invalid(f"{', '.join(given)}: not all are sources", error) from None
