"""``align gate plan`` and ``align gate win-rate``: what is known before anything runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignment_cli.commands.options import OutputOption
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, emit, say, show

if TYPE_CHECKING:
    from alignment_api.spec import Criterion
    from alignment_trainer.planning import Plan, Worth

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    gate = typer.Typer(
        help="Plan how large a holdout must be, and compute win rates of files.", no_args_is_help=True
    )
    gate.command("plan")(plan)
    gate.command("win-rate")(win_rate)
    app.add_typer(gate, name="gate")


def plan(
    holdout: Annotated[int, typer.Option("--holdout", help="Held-out pairs.", min=2)],
    groups: Annotated[
        int | None,
        typer.Option(help="Groups (patients, documents) that they come from; omitted: one each.", min=2),
    ] = None,
    per_year: Annotated[float, typer.Option(help="Error budget per year.", min=0.0001, max=0.5)] = 0.05,
    decisions: Annotated[int, typer.Option(help="Decisions per year.", min=1)] = 52,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say the smallest effect that each criterion can pass at, and the pairs needed for 2, 5 and 10 points."""
    from alignment_api.spec import ErrorBudget
    from alignment_trainer.evaluation.power import POWER
    from alignment_trainer.planning import Holdout, Worth, plan_gate

    if groups is not None and groups > holdout:
        raise CommandError(
            f"{holdout} pairs cannot come from {groups} groups; give at most {holdout} as --groups."
        )
    sizes = _even(holdout, groups or holdout)
    worth = Worth.of(sizes)
    budget = ErrorBudget(per_year=per_year, decisions_per_year=decisions)
    rows: list[dict[str, Any]] = []
    for criterion in _plannable():
        (found,) = plan_gate((criterion,), budget, Holdout(sizes))
        needed = {points: _needed(found, points / 100, worth) for points in (2, 5, 10)}
        rows.append(
            {
                "metric": str(criterion.metric),
                "limit": criterion.limit,
                "alpha": found.alpha,
                "pairs": found.pairs,
                "passesAt": None if found.impossible else round(_observed(found), 4),
                "smallestEffect": None if found.impossible else round(found.change, 4),
                "pairsNeeded": {f"{points} points": count for points, count in needed.items()},
            }
        )
    if output is not Output.TEXT:
        emit(
            {
                "holdout": holdout,
                "independent": round(holdout * worth.independent, 1),
                "power": POWER,
                "metrics": rows,
            },
            output,
        )
        return
    _show_plan(rows)
    say(
        f"{holdout} held-out pairs, worth {holdout * worth.independent:.0f} independent ones; one-sided alpha {rows[0]['alpha']:.2g} "
        f"({per_year:g} a year over {decisions} decisions). PASSES AT: what must be observed. SHOWS: the true change, counted "
        "from a copy of the champion, that is found in 80 of 100 evaluations. Generated texts are compared for evaluation.generation.prompts pairs only, "
        "and lift looks at 200 edits at most. More pairs means as many more groups."
    )


def win_rate(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON list, or JSON lines, of rows with a preference from 1 to 2.",
            show_default=False,
            exists=True,
            dir_okay=False,
        ),
    ],
    output: OutputOption = Output.TEXT,
) -> None:
    """Compute win rate and standard error as AlpacaEval does: null left out, draws (1.5 or 0) half."""
    from alignment_cli.stores import trainer_errors

    with trainer_errors():
        from alignment_trainer.evaluation.alpaca import alpaca_win_rate, read_preferences

        found = alpaca_win_rate(read_preferences(file))
    error = (
        None if math.isnan(found.standard_error) else found.standard_error
    )  # of one comparison there is none
    if output is not Output.TEXT:
        wire = {
            "winRate": found.win_rate,
            "standardError": error,
            "wins": found.wins,
            "losses": found.losses,
            "draws": found.draws,
            "total": found.total,
            "missing": found.missing,
        }
        emit(wire, output)
        return
    say(
        f"{found.win_rate:.2f} % ± {'unknown' if error is None else f'{error:.2f}'} (standard error): {found.wins} wins, "
        f"{found.losses} losses, "
        f"{found.draws} draws of {found.total}; {found.missing} without a preference left out."
    )


def _plannable() -> list[Criterion]:
    """The criteria on which a release may rest: the defaults for edits, for a judge, and for neither."""
    from alignment_api.gate import carries
    from alignment_api.spec import CriterionMode, EvaluationSpec, JudgeSpec, JudgeType
    from alignment_trainer.evaluation.defaults import default_criteria

    judged = EvaluationSpec(judge=JudgeSpec(type=JudgeType.REWARD_MODEL, uri="file:///judge/"))
    sets = (
        default_criteria(EvaluationSpec(), edits=True),
        default_criteria(judged, edits=False),
        default_criteria(EvaluationSpec(), edits=False),
    )
    found = {criterion.metric: criterion for criteria in sets for criterion in criteria if carries(criterion)}
    lift = next(c for c in sets[0] if c.name == "direction")
    return [*found.values(), lift.model_copy(update={"mode": CriterionMode.BLOCKING})]


def _observed(found: Plan) -> float:
    """The metric's value that passes."""
    criterion = found.criterion
    return criterion.limit + (found.passes_at if criterion.upwards else -found.passes_at)


def _needed(found: Plan, change: float, worth: Worth) -> int | None:
    """Held-out pairs that show a true change; None where the limit asks for more than that, or the metric looks at fewer."""
    from alignment_api.metrics import MetricName
    from alignment_trainer.evaluation.prompts import PLACEBO_PAIRS
    from alignment_trainer.planning import DEVIATIONS, beyond_limit

    effect = beyond_limit(found.criterion, change)
    if effect <= 0:
        return None
    count = worth.needed(effect, found.alpha, DEVIATIONS[found.criterion.metric])
    if found.criterion.metric is MetricName.PREFERENCE_LIFT and count > PLACEBO_PAIRS:
        return None
    return count


def _show_plan(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("METRIC", "PASSES AT", "SHOWS", "FOR 2 POINTS", "FOR 5 POINTS", "FOR 10 POINTS"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row["metric"],
            *("never" if row[key] is None else f"{row[key]:.3f}" for key in ("passesAt", "smallestEffect")),
            *("never" if count is None else f"{count} pairs" for count in row["pairsNeeded"].values()),
        )
    show(table)


def _even(pairs: int, groups: int) -> list[int]:
    """Sizes of ``groups`` groups of nearly equal size."""
    return [pairs // groups + (1 if index < pairs % groups else 0) for index in range(groups)]
