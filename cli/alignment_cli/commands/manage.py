"""Verbs on existing runs: list, status, logs, approve, reject, suspend, resume, clone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from alignment_api.names import StageName
from alignment_cli.backend import Backend, choose
from alignment_cli.commands.options import Context, Name, Namespace, OutputOption, State
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, emit, say, show, visible, warn

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for command in (list_runs, status, logs, approve, reject, suspend, resume, clone):
        app.command(command.__name__.removesuffix("_runs"))(command)


def list_runs(
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Runs of all namespaces of the cluster.")
    ] = False,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List runs: where each stands and what its verdict was.

    A run that cannot be read is named on standard error, after the others; the exit code then is not 0.
    """
    runs, refusals = choose(state, namespace, context, cluster=everywhere).list(everywhere=everywhere)
    if output is not Output.TEXT:
        emit([run.to_wire() for run in runs], output)
    elif runs:
        from alignment_cli.view import runs_table

        show(runs_table(runs, namespaces=everywhere))
    elif not refusals:
        say("There are no runs here.")
    for refusal in refusals:
        warn(refusal.message)
    if refusals:
        raise typer.Exit(refusals[0].exit_code)


def status(
    name: Name,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Go on until the run ends or waits for a person; the exit code then says how.",
        ),
    ] = False,
) -> None:
    """Show the whole story of a run on one screen.

    With --watch the exit code is the one of align run: 0 published, 3 gate failed or rejected, 4 inconclusive, waiting
    for a person or suspended, 65 bad data, 64 bad request, 1 anything else. A cluster that does not answer is asked
    again for two minutes.
    """
    backend = choose(state, namespace, context)
    if watch:
        _watch(backend, name, output)
        return
    run = backend.get(name)
    if output is not Output.TEXT:
        emit(run.to_wire(), output)
        return
    from alignment_cli.view import run_story

    show(run_story(run))


def _watch(backend: Backend, name: str, output: Output) -> None:
    from alignment_cli.live import JsonView, LineView, TerminalView
    from alignment_cli.outcome import exit_code
    from alignment_cli.watching import follow

    view = (
        JsonView(output)
        if output is not Output.TEXT
        else TerminalView()
        if sys.stdout.isatty()
        else LineView()
    )
    with view:
        for run in follow(backend, name):
            view.changed(run)
            if run.status.progress is not None:
                view.progressed(run, run.status.progress)
    raise typer.Exit(exit_code(run))


def logs(
    name: Name,
    stage: Annotated[StageName | None, typer.Option("--stage", help="Stage (default: the newest).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the stage runs.")] = False,
    node: Annotated[int, typer.Option("--node", help="Which node, where several train.", min=0)] = 0,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print the log of a stage's newest attempt."""
    for line in choose(state, namespace, context).logs(name, stage, follow=follow, node=node):
        typer.echo(visible(line))


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
    """Approve a run that waits for a decision: its candidate is published. Set once; cannot overrule a failed gate."""
    backend = choose(state, namespace, context)
    _decide(backend, name, "Approve", reason, by)
    say(f"{name} is approved. {backend.going_on(name)}")


def reject(
    name: Name,
    reason: _Why,
    by: _By = None,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Reject a run that waits for a decision: nothing is published. Set once."""
    backend = choose(state, namespace, context)
    _decide(backend, name, "Reject", reason, by)
    say(f"{name} is rejected. {backend.going_on(name)}")


def _decide(backend: Backend, name: str, result: str, reason: str, by: str | None) -> None:
    backend.change(name, decision={"result": result, "by": by or backend.user(), "reason": reason})


def suspend(name: Name, state: State = None, namespace: Namespace = None, context: Context = None) -> None:
    """Stop a run's stage after its next checkpoint; it costs no attempt."""
    backend = choose(state, namespace, context)
    _refuse_ended(backend, name)
    backend.change(name, suspend=True)
    say(f"{name} is suspended; {backend.command('resume', name)} goes on from the checkpoint.")


def resume(name: Name, state: State = None, namespace: Namespace = None, context: Context = None) -> None:
    """Go on with a suspended run."""
    backend = choose(state, namespace, context)
    _refuse_ended(backend, name)
    backend.change(name, suspend=False)
    say(f"{name} is resumed. {backend.going_on(name)}")


def _refuse_ended(backend: Backend, name: str) -> None:
    run = backend.get(name)
    if run.finished:
        raise CommandError(
            f"{name} has ended and cannot be changed; {backend.command('clone', name, 'NEW')} makes a new run of it."
        )


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
