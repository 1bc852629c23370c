"""Verbs on existing runs: list, status, logs, approve, reject, suspend, resume, clone."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from alignment_api.names import StageName
from alignment_cli.backend import Backend, choose
from alignment_cli.commands.options import Context, Name, Namespace, OutputOption, State
from alignment_cli.output import Output, console, emit, say

__all__ = ["register"]

_WATCH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for command in (list_runs, status, logs, approve, reject, suspend, resume, clone):
        app.command(command.__name__.removesuffix("_runs"))(command)


def list_runs(
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List runs: where each stands and what its verdict was."""
    runs = choose(state, namespace, context).list()
    if output is not Output.TEXT:
        emit([run.to_wire() for run in runs], output)
        return
    from alignment_cli.view import runs_table

    console().print(runs_table(runs))


def status(
    name: Name,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until the run ends.")] = False,
) -> None:
    """Show the whole story of a run on one screen."""
    backend = choose(state, namespace, context)
    if output is not Output.TEXT:
        emit(backend.get(name).to_wire(), output)
        return
    if not watch:
        from alignment_cli.view import run_story

        console().print(run_story(backend.get(name)))
        return
    _watch(backend, name)


def _watch(backend: Backend, name: str) -> None:
    from rich.live import Live

    from alignment_cli.view import run_story

    run = backend.get(name)
    with Live(run_story(run), console=console(), auto_refresh=False) as live:
        while not run.finished:
            time.sleep(_WATCH_SECONDS)
            run = backend.get(name)
            live.update(run_story(run), refresh=True)


def logs(
    name: Name,
    stage: Annotated[StageName | None, typer.Option("--stage", help="Stage (default: the newest).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the stage runs.")] = False,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print the log of a stage's newest attempt."""
    for line in choose(state, namespace, context).logs(name, stage, follow=follow):
        typer.echo(line)


_Why = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the run and in the lineage.")]
_By = Annotated[str | None, typer.Option("--by", help="Who decides (default: the user that asks).")]


def approve(
    name: Name,
    reason: _Why,
    by: _By = None,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Approve a run that waits for a decision."""
    _decide(choose(state, namespace, context), name, "Approve", reason, by)
    say(f"{name} is approved. An embedded run goes on with align run {name}.")


def reject(
    name: Name,
    reason: _Why,
    by: _By = None,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Reject a run that waits for a decision."""
    _decide(choose(state, namespace, context), name, "Reject", reason, by)
    say(f"{name} is rejected.")


def _decide(backend: Backend, name: str, result: str, reason: str, by: str | None) -> None:
    backend.change(name, decision={"result": result, "by": by or backend.user(), "reason": reason})


def suspend(name: Name, state: State = None, namespace: Namespace = None, context: Context = None) -> None:
    """Stop a run's stage after its next checkpoint; it costs no attempt."""
    choose(state, namespace, context).change(name, suspend=True)
    say(f"{name} is suspended; align resume {name} goes on from the checkpoint.")


def resume(name: Name, state: State = None, namespace: Namespace = None, context: Context = None) -> None:
    """Go on with a suspended run."""
    choose(state, namespace, context).change(name, suspend=False)
    say(f"{name} is resumed. An embedded run goes on with align run {name}.")


def clone(
    name: Name,
    new_name: Annotated[str, typer.Argument(help="Name of the new run.", show_default=False)],
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print a new manifest with the spec of an old run, to be changed and run."""
    from alignment_cli.manifests import new_manifest

    emit(new_manifest(choose(state, namespace, context).get(name), new_name), Output.YAML)
