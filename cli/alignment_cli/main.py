"""``align``, also installed as ``kubectl-align``: parses, calls, prints. The one place where errors become exit codes.

Modules of the verbs are small and import what is heavy inside the function that needs it, so that
``align --help`` answers in half a second.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from alignment_api.exitcodes import AlignExit
from alignment_cli.commands import alias, artifacts, data, demo, manage, planning, run, subjects
from alignment_cli.errors import CommandError
from alignment_cli.output import visible

__all__ = ["app", "main"]

_FOR_THE_PERSON = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS}
)
"""What another path or another right would mend; a full disk, say, is not one of them."""


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"align {version('alignment-operator')}")
        raise typer.Exit


app = typer.Typer(
    name="align",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Preference alignment with a decision: run, watch and judge AlignmentRuns on this machine or a cluster."""


for group in (demo, run, manage, artifacts, alias, data, planning, subjects):
    group.register(app)


def main() -> None:
    """Entry point. A person sees one message; a traceback only with ALIGN_TRACEBACK=1."""
    try:
        code = app(prog_name="align", standalone_mode=False)
    except CommandError as error:
        _end(error.message, error.exit_code)
    except TyperException as error:
        _misused(error)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if os.environ.get("ALIGN_TRACEBACK"):
            raise
        _unusable(error)
    except Exception as error:
        if os.environ.get("ALIGN_TRACEBACK"):
            raise
        _end(
            f"A defect of align: {type(error).__name__}: {error}. ALIGN_TRACEBACK=1 shows where.",
            AlignExit.OTHER,
        )
    if code == AlignExit.INTERRUPTED:
        _interrupted()
    sys.exit(code or 0)


def _unusable(error: OSError) -> None:
    """A folder or file of this machine that cannot be used: the state folder, most often."""
    code = AlignExit.REQUEST_INVALID if error.errno in _FOR_THE_PERSON else AlignExit.OTHER
    place = f"{error.filename} cannot be used" if error.filename else "A file or folder cannot be used"
    _end(f"{place}: {error.strerror or type(error).__name__}. Mend that, or name another place.", code)


def _interrupted() -> None:
    _end("Interrupted; the same command goes on where it stopped.", AlignExit.INTERRUPTED)


def _misused(error: TyperException) -> None:
    message = error.format_message()
    if message.startswith("Usage:"):  # a group without a verb: its help is the answer
        sys.stderr.write(visible(message) + "\n")
        sys.exit(AlignExit.REQUEST_INVALID)
    ended = message if message.endswith((".", "?", "!")) else f"{message}."
    context = getattr(error, "ctx", None)
    verb = context.command_path if context is not None else "align"
    _end(f"{ended} `{verb} --help` shows what there is.", AlignExit.REQUEST_INVALID)


def _end(message: str, code: int) -> None:
    sys.stderr.write(f"align: {visible(message)}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
