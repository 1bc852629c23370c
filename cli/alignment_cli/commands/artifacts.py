"""Verbs on what runs have stored: report, delete, gc."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment_cli.backend import choose
from alignment_cli.commands.options import (
    Context,
    Endpoint,
    Name,
    Namespace,
    OutputOption,
    State,
    as_folder,
    make_sure,
)
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, counted, emit, say

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.command("report")(report)
    app.command("delete")(delete)
    app.command("gc")(collect)


def report(
    name: Name,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Where to put report.html.")] = None,
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open it in the browser (default: on a terminal).")
    ] = None,
    endpoint: Endpoint = None,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Fetch a run's report with your own storage credentials, say where it is and open it; -o json prints report.json."""
    import json

    from alignment_api.names import StageName
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    backend = choose(state, namespace, context)
    run = backend.get(name)
    folder = run.status.stage(StageName.EVALUATE).artifact_uri
    if folder is None:
        raise CommandError(
            f"Run {name} has no report: its evaluation has not ended. See {backend.command('status', name)}."
        )
    if backend.remote and not folder.startswith("s3://"):
        raise CommandError(
            f"The report of {name} is in {folder}, which only pods of the cluster can read; copy report.html from there."
        )
    store = open_stores(storage_at(endpoint, run.spec.storage))(folder)
    with trainer_errors():
        if output is not Output.TEXT:
            emit(json.loads(store.get(f"{folder}report.json")[0]), output)
            return
        local = store.local_path(f"{folder}report.html")
        target = to or local or Path(f"{name}-report.html")
        if target != local:
            store.download(f"{folder}report.html", target)
    say(str(target))
    if sys.stdout.isatty() if show is None else show:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())


def delete(
    name: Name,
    artifacts: Annotated[
        bool,
        typer.Option("--artifacts", help="Also delete what the run has stored; published versions stay."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal to ask on.")
    ] = False,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete a run and what still works for it."""
    backend = choose(state, namespace, context)
    run = backend.get(name)
    what = f"run {name} ({backend.place(run)})" + (" and its artifacts" if artifacts else "")
    make_sure(f"Delete {what}?", yes=yes)
    if not artifacts:
        backend.delete(name)
        say(f"Deleted {what}.")
        return
    from alignment_cli.stores import open_stores, trainer_errors

    folder = _folder(run)
    stores = open_stores(run.spec.storage)
    with trainer_errors():
        from alignment_trainer.storage.folders import delete_folder, list_folder

        list_folder(
            stores(folder), folder
        )  # a store that cannot be reached is found out before the run is gone
        backend.delete(name)
        count = delete_folder(stores(folder), folder)
    say(f"Deleted {what}: {counted(count, 'object')} below {folder}")


def collect(
    uri: Annotated[str, typer.Argument(help="Artifacts URI, as in spec.artifacts.uri.", callback=as_folder)],
    retention_days: Annotated[
        int | None, typer.Option(help="Days for all runs (default: each run's own retentionDays).", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    at_most: Annotated[int, typer.Option(help="Delete at most so many runs.", min=1)] = 1000,
    endpoint: Endpoint = None,
) -> None:
    """Delete the stored folders of runs older than their retention; never of a run whose version an alias points to."""
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    stores = open_stores(storage_at(endpoint))
    now = datetime.now(UTC)
    with trainer_errors():
        from alignment_trainer.publishing.retention import collect_expired, expired_runs

        if dry_run:
            gone = [run.uri for run in expired_runs(uri, stores, now=now, retention_days=retention_days)]
        else:
            gone = list(collect_expired(uri, stores, now=now, retention_days=retention_days, at_most=at_most))
    for folder in gone:
        say(folder)
    say(f"{'Would delete' if dry_run else 'Deleted'} {counted(len(gone), 'run')}.")


def _folder(run: AlignmentRun) -> str:
    from alignment_api.names import run_folder

    meta = run.metadata
    return run_folder(run.spec.artifacts.uri, meta.namespace, meta.name, meta.uid)
