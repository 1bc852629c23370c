"""Verbs on what runs have stored: report, delete, gc."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignment_api.exitcodes import AlignExit
from alignment_cli.backend import Backend, choose
from alignment_cli.commands.options import (
    Context,
    Endpoint,
    Name,
    Namespace,
    OutputOption,
    State,
    Yes,
    as_folder,
    make_sure,
)
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, counted, emit, say

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun
    from alignment_trainer.publishing.retention import RunFolder

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
    if _out_of_reach(backend, folder):
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
    yes: Yes = False,
    endpoint: Endpoint = None,
    state: State = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete a run and what still works for it.

    With --artifacts it waits until nothing can write there any more. Where that does not come to be, what the run has
    stored is not touched, and the exit code is 1.
    """
    backend = choose(state, namespace, context)
    run = backend.get(name)
    what = f"run {name} ({backend.place(run)})" + (" and its artifacts" if artifacts else "")
    folder = _folder(run)
    if artifacts and _out_of_reach(backend, folder):
        raise CommandError(
            f"The artifacts of {name} are in {folder}, which only pods of the cluster can reach; leave --artifacts out, and "
            "delete that folder on the volume."
        )
    make_sure(f"Delete {what}?", yes=yes)
    if not artifacts:
        backend.delete(name)
        say(f"Deleted {what}.")
        return
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    store = open_stores(storage_at(endpoint, run.spec.storage))(folder)
    with trainer_errors():
        from alignment_trainer.storage.folders import delete_folder, list_folder

        list_folder(store, folder)  # a store that cannot be reached is found out before the run is gone
        try:
            backend.delete(name, settled=True)
        except CommandError as error:
            raise CommandError(
                f"{error.message} Nothing was deleted below {folder}", exit_code=error.exit_code
            ) from None
        count = delete_folder(store, folder)
        left = list_folder(store, folder)
    if left:
        raise CommandError(
            f"Deleted run {name} and {counted(count, 'object')}, but something else writes below {folder}: "
            f"{counted(len(left), 'object')} came since. Find out what, then delete that folder in the store.",
            exit_code=AlignExit.OTHER,
        )
    say(f"Deleted {what}: {counted(count, 'object')} below {folder}")


def collect(
    uri: Annotated[str, typer.Argument(help="Artifacts URI, as in spec.artifacts.uri.", callback=as_folder)],
    retention_days: Annotated[
        int | None, typer.Option(help="Days for all runs (default: each run's own retentionDays).", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    at_most: Annotated[int, typer.Option(help="Delete at most so many runs, the oldest.", min=1)] = 1000,
    endpoint: Endpoint = None,
    yes: Yes = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Delete the stored folders of runs older than their retention; never of a run whose version an alias points to."""
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    stores = open_stores(storage_at(endpoint))
    with trainer_errors():
        from alignment_trainer.publishing.retention import delete_expired, expired_runs

        expired = expired_runs(uri, stores, now=datetime.now(UTC), retention_days=retention_days)
        gone = chosen = expired[:at_most]
        if output is Output.TEXT:
            for run in chosen:
                say(f"{run.uri}  {_amount([run])}, last written {run.newest:%Y-%m-%d}")
        if chosen and not dry_run:
            make_sure(f"Delete {_runs(chosen)} below {uri}?", yes=yes)
            gone = delete_expired(chosen, stores)
    left = len(expired) - len(chosen)
    if output is not Output.TEXT:
        emit({"dryRun": dry_run, "runs": [_wire(run) for run in gone], "left": left}, output)
        return
    say(f"{'Would delete' if dry_run else 'Deleted'} {_runs(gone)}.")
    for run in chosen:
        if run not in gone:
            say(f"In use since it was listed, and kept: {run.uri}")
    if left:
        say(f"Left for another call (--at-most {at_most}): {counted(left, 'run')}.")


def _runs(runs: Sequence[RunFolder]) -> str:
    return f"{counted(len(runs), 'run')} ({_amount(runs)})"


def _amount(runs: Sequence[RunFolder]) -> str:
    from rich.filesize import decimal

    return f"{counted(sum(run.objects for run in runs), 'object')}, {decimal(sum(run.size for run in runs))}"


def _wire(run: RunFolder) -> dict[str, Any]:
    return {"uri": run.uri, "objects": run.objects, "bytes": run.size, "newest": run.newest.isoformat()}


def _out_of_reach(backend: Backend, folder: str) -> bool:
    return backend.remote and not folder.startswith("s3://")


def _folder(run: AlignmentRun) -> str:
    from alignment_api.names import run_folder

    meta = run.metadata
    return run_folder(run.spec.artifacts.uri, meta.namespace, meta.name, meta.uid)
