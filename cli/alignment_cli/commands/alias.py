"""``align alias show|set``: look at an alias, or roll it back to an earlier version."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from alignment_cli.commands.options import Endpoint, OutputOption, as_folder
from alignment_cli.output import Output, emit, say

__all__ = ["register"]

_Publish = Annotated[
    str, typer.Argument(help="Publish URI, as in spec.publish.uri.", show_default=False, callback=as_folder)
]
_Alias = Annotated[str, typer.Option("--alias", help="Name of the alias.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    group = typer.Typer(
        help="Look at an alias, or move it to another published version.", no_args_is_help=True
    )
    group.command("show")(show)
    group.command("set")(move)
    app.add_typer(group, name="alias")


def show(
    uri: _Publish, alias: _Alias = "champion", endpoint: Endpoint = None, output: OutputOption = Output.TEXT
) -> None:
    """Show where an alias points, what it pointed to before, and which versions there are."""
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    _require_valid(uri, alias)
    stores = open_stores(storage_at(endpoint))
    with trainer_errors():
        from alignment_trainer.models.aliases import alias_uri, read_alias, versions

        place = alias_uri(uri, alias)
        found = read_alias(place, stores(place))
        known = versions(uri, stores(uri))
    if output is not Output.TEXT:
        emit({"alias": found[0].to_wire() if found else None, "versions": list(known)}, output)
        return
    if found is None:
        say(f"{place} does not exist yet.")
    else:
        say(f"{place} → {found[0].target.version}")
        if found[0].previous is not None:
            say(f"before: {found[0].previous.version}")
    say("versions: " + (", ".join(known) or "none"))


def move(
    uri: _Publish,
    version: Annotated[str, typer.Argument(help="Version to point to.", show_default=False)],
    alias: _Alias = "champion",
    endpoint: Endpoint = None,
) -> None:
    """Point an alias to a published version, unless someone else moves it at the same moment."""
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    _require_valid(uri, alias)
    stores = open_stores(storage_at(endpoint))
    with trainer_errors():
        from alignment_trainer.models.aliases import set_alias

        moved = set_alias(uri, alias, version, stores(uri), now=datetime.now(UTC), by=getpass.getuser())
    before = moved.previous.version if moved.previous else "nothing"
    say(f"{alias}: {before} → {version}")


def _require_valid(uri: str, alias: str) -> None:
    """Refuse what no run could have published under."""
    from pydantic import ValidationError

    from alignment_api.spec import PublishSpec
    from alignment_cli.manifests import invalid

    try:
        PublishSpec(uri=uri, alias=alias)
    except ValidationError as error:
        raise invalid("The publish URI or the alias is not valid", error) from None
