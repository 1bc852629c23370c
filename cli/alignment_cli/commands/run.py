"""``align run``: work on a run on this machine until it ends or waits for a person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment_api.exitcodes import AlignExit
from alignment_cli.backend import DEFAULT_STATE, by_kubectl
from alignment_cli.commands.options import OutputOption, State
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, emit, say, show

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun  # building the contract's models takes a while

__all__ = ["execute", "register", "require_trainer"]


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("run")(run)


def run(
    name: Annotated[
        str | None, typer.Argument(help="Name of a run in the state folder, to go on with it.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Manifest of the run (-: standard input).")
    ] = None,
    state: State = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would happen and do nothing.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run an AlignmentRun on this machine; an interrupted one goes on where it stopped.

    Exit code: 0 published, 3 gate failed or rejected, 4 inconclusive or waiting for a person, 65 bad data,
    64 bad request, 1 anything else.
    """
    from alignment_cli.outcome import exit_code

    if by_kubectl() and state is None and not (plan and file):
        raise CommandError(
            "align run works on this machine: kubectl apply -f FILE starts a run on the cluster; --state DIR says that "
            "this machine is meant."
        )
    folder = state or DEFAULT_STATE
    if (file is None) == (name is None):
        raise CommandError("Give either a manifest (-f run.yaml) or the name of a run in the state folder.")
    wanted = _wanted(folder, name, file)
    if plan:
        from alignment_cli.preview import preview

        preview(wanted, output)
        return
    finished = execute(folder, wanted, output)
    raise typer.Exit(exit_code(finished))


def execute(folder: Path, wanted: AlignmentRun, output: Output, *, quiet: bool = False) -> AlignmentRun:
    """Create or continue ``wanted`` in a state folder, show it, and return it as it ended. quiet: show nothing."""
    from alignment_cli.embedded.executor import Executor, Silent
    from alignment_cli.embedded.state import State as StateFolder
    from alignment_cli.live import LineView, TerminalView

    require_trainer()
    store = StateFolder(folder)
    run = store.create(wanted)
    if output is not Output.TEXT:
        finished = Executor(store, Silent()).run(run.metadata.name)
        if not quiet:
            emit(finished.to_wire(), output)
        return finished
    with TerminalView() if sys.stdout.isatty() else LineView() as view:
        finished = Executor(store, view).run(run.metadata.name)
    if not sys.stdout.isatty():
        from alignment_cli.view import run_story

        show(run_story(finished))
    say(f"Report: align report {finished.metadata.name} --state {folder}")
    return finished


def _wanted(folder: Path, name: str | None, file: Path | None) -> AlignmentRun:
    from alignment_cli.embedded.state import State as StateFolder
    from alignment_cli.manifests import load_manifest

    if file is not None:
        return load_manifest(file)
    assert name is not None  # noqa: S101  run() saw to it
    return StateFolder(folder).load(name)


def require_trainer() -> None:
    """Raise CommandError when the packages of the stages are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "trl", "pyarrow", "boto3") if find_spec(name) is None]
    if missing:
        raise CommandError(
            f"Running the stages on this machine needs the trainer's packages ({', '.join(missing)} missing): "
            "pip install 'alignment-operator[trainer]'.",
            exit_code=AlignExit.OTHER,
        )
