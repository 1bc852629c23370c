"""``align data check`` and ``align gate plan``: what is known before anything runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_api.exitcodes import AlignExit
from alignment_cli.commands.options import OutputOption
from alignment_cli.output import Output, console, emit, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    data = typer.Typer(help="Look at preference data without changing it.", no_args_is_help=True)
    data.command("check")(check)
    app.add_typer(data, name="data")
    gate = typer.Typer(help="Plan how large a holdout must be.", no_args_is_help=True)
    gate.command("plan")(plan)
    app.add_typer(gate, name="gate")


def check(
    uris: Annotated[
        list[str], typer.Argument(help="Sources: URIs, globs or local paths.", show_default=False)
    ],
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Endpoint of an S3-compatible store.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Read sources as prepare would and say what it would make of them; changes nothing. Exit code 65 for invalid rows over the limit."""
    from alignment_api.spec import DataSource, DataSpec, StorageSpec
    from alignment_cli.stores import open_stores, trainer_errors
    from alignment_cli.view import funnel

    stores = open_stores(StorageSpec(endpoint=endpoint))
    spec = DataSpec(sources=tuple(DataSource(uri=_as_uri(uri)) for uri in uris))
    with trainer_errors(), tempfile.TemporaryDirectory() as folder:
        from alignment_trainer.data.assemble import Assembly, assemble, refuse_too_many_invalid

        found = assemble(spec, Assembly(stores), Path(folder) / "quarantine.jsonl")
        faults = dict(found.account.invalid.most_common())
        if output is not Output.TEXT:
            emit(
                {"funnel": found.funnel.to_wire(), "invalid": faults, "examples": found.account.places},
                output,
            )
        else:
            console().print(funnel(found.funnel))
            for code, count in faults.items():
                say(f"        {count} × {code}, e.g. {', '.join(found.account.places[code])}")
        if output is Output.TEXT:
            refuse_too_many_invalid(found.account, spec)
        elif found.account.invalid.total() > spec.maximum_invalid_fraction * found.account.rows:
            raise typer.Exit(AlignExit.DATA_INVALID)


def plan(
    holdout: Annotated[int, typer.Option("--holdout", help="Held-out pairs.", min=2)],
    per_year: Annotated[float, typer.Option(help="Error budget per year.", min=0.0001, max=0.5)] = 0.05,
    decisions: Annotated[int, typer.Option(help="Decisions per year.", min=1)] = 52,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say the smallest effect a holdout can show with 80 % power, and the pairs needed for 2, 5 and 10 points."""
    from alignment_trainer.planning import (
        EDIT_BURDEN_DEVIATION,
        WIN_RATE_DEVIATION,
        pairs_needed,
        smallest_effect,
    )

    alpha = per_year / decisions
    rows: list[dict[str, Any]] = []
    for metric, deviation in (("editBurden", EDIT_BURDEN_DEVIATION), ("winRate", WIN_RATE_DEVIATION)):
        needed = {points: pairs_needed(points / 100, alpha, deviation) for points in (2, 5, 10)}
        rows.append(
            {
                "metric": metric,
                "smallestEffect": round(smallest_effect(holdout, alpha, deviation), 4),
                "pairsNeeded": {f"{points} points": count for points, count in needed.items()},
            }
        )
    if output is not Output.TEXT:
        emit({"holdout": holdout, "alpha": alpha, "power": 0.8, "metrics": rows}, output)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("METRIC", "SMALLEST EFFECT", "FOR 2 POINTS", "FOR 5 POINTS", "FOR 10 POINTS"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row["metric"],
            f"{row['smallestEffect']:.3f}",
            *(f"{count} pairs" for count in row["pairsNeeded"].values()),
        )
    console().print(table)
    say(
        f"{holdout} held-out pairs, 80 % power, one-sided alpha {alpha:.2g} ({per_year:g} a year over {decisions} decisions)."
    )


def _as_uri(text: str) -> str:
    """A URI as given, or a local path as one."""
    return text if "://" in text else "file://" + str(Path(text).absolute())
