"""``align trace`` and ``align erase``: where a record, person or group went, and taking it out again."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment_cli.commands.options import Endpoint, OutputOption, Yes, as_folder, as_folders, make_sure
from alignment_cli.output import Output, counted, emit, say

if TYPE_CHECKING:
    from alignment_trainer.subjects.erase import Erasure
    from alignment_trainer.subjects.subject import Subject
    from alignment_trainer.subjects.trace import Trace

__all__ = ["register"]


class KindOption(StrEnum):
    """What a name may be the name of."""

    ANY = "any"
    ID = "id"
    GROUP = "group"
    ACTOR = "actor"


_Names = Annotated[
    list[str],
    typer.Argument(help="Ids of events or pairs, groups (patients, threads) or actors.", show_default=False),
]
_Artifacts = Annotated[
    str, typer.Option("--artifacts", help="Artifacts URI, as in spec.artifacts.uri.", callback=as_folder)
]
_Kind = Annotated[KindOption, typer.Option("--kind", help="What the names are.")]
_Publish = Annotated[
    list[str] | None,
    typer.Option(
        "--publish",
        help="Publish URI whose versions must be accounted for; those of the runs found are.",
        callback=as_folders,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.command("trace")(trace)
    app.command("erase")(erase)


def trace(
    names: _Names,
    artifacts: _Artifacts,
    kind: _Kind = KindOption.ANY,
    publish: _Publish = None,
    endpoint: Endpoint = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say which snapshots, candidates and published versions hold a record, person or group, and on which side."""
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    stores = open_stores(storage_at(endpoint))
    with trainer_errors():
        from alignment_trainer.subjects.trace import trace as look

        found = look(artifacts, _subject(names, kind), stores, publish_uris=tuple(publish or ()))
    if output is not Output.TEXT:
        emit(found.to_wire() | {"affectedVersions": list(found.affected_versions)}, output)
        return
    _tell(found)


def erase(
    names: _Names,
    artifacts: _Artifacts,
    kind: _Kind = KindOption.ANY,
    publish: _Publish = None,
    endpoint: Endpoint = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Yes = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a record, person or group out of all that runs have stored, and keep it out of later runs.

    Models are not changed: the answer names those that learned from it. Sources are yours and are not touched.
    """
    from alignment_cli.stores import open_stores, storage_at, trainer_errors

    stores = open_stores(storage_at(endpoint))
    publish_uris = tuple(publish or ())
    with trainer_errors(), tempfile.TemporaryDirectory() as scratch:
        from alignment_trainer.subjects.erase import erase as remove
        from alignment_trainer.subjects.trace import trace as look

        subject = _subject(names, kind)
        if dry_run or not yes:
            found = look(artifacts, subject, stores, publish_uris=publish_uris)
            if output is Output.TEXT:
                _tell(found)
            elif dry_run:
                emit(found.to_wire() | {"affectedVersions": list(found.affected_versions)}, output)
            if dry_run:
                return
            make_sure(f"Erase {counted(len(names), 'name')} from everything below {artifacts}?", yes=yes)
        done = remove(artifacts, subject, stores, Path(scratch), publish_uris=publish_uris)
    if output is not Output.TEXT:
        emit(done.to_wire(), output)
        return
    _tell_done(done)


def _subject(names: list[str], kind: KindOption) -> Subject:
    from alignment_trainer.subjects.subject import Kind, Subject

    kinds = frozenset(Kind) if kind is KindOption.ANY else frozenset({Kind(kind.value)})
    return Subject(frozenset(names), kinds)


def _tell(found: Trace) -> None:
    for run in found.runs:
        counts = {side: sum(pair.side == side for pair in run.pairs) for side in ("train", "holdout")}
        say(f"{run.run}")
        if run.pairs:
            say(
                f"  snapshot:  {counted(counts['train'], 'pair')} on the train side, {counts['holdout']} held out"
            )
        for pair in run.pairs[:20]:
            ids = ", ".join(pair.event_ids) or "no id"
            say(
                f"    {pair.side:<8} {pair.pair_id}  {pair.source}:{pair.line}  {ids}  (as {', '.join(pair.matched)})"
            )
        if len(run.pairs) > 20:
            say(f"    … and {len(run.pairs) - 20} more (-o json lists all)")
        if run.erased_train or run.erased_holdout:
            taken = counted(run.erased_train, "pair")
            say(
                f"  erased:    {taken} on the train side, {run.erased_holdout} held out, by an earlier erasure"
            )
        if run.inherited:
            say(f"  went on from {run.inherited}, which learned from it")
        if run.affected and run.candidate:
            say(f"  candidate: {run.candidate}")
        if run.affected and run.published:
            say(f"  published: {run.published}")
    holding = sum(bool(run.pairs) for run in found.runs)
    say(
        f"{counted(found.searched, 'snapshot')} searched, held in {holding}; "
        f"{counted(len(found.affected_versions), 'published version')} learned from it."
    )
    for version in found.unknown:
        say(_unknown(version))


def _tell_done(done: Erasure) -> None:
    say(f"Excluded from later runs: {done.exclusions}")
    say(
        f"Removed {counted(done.pairs, 'pair')} from {counted(len(done.snapshots), 'snapshot')}, "
        f"their texts from {counted(len(done.evaluations), 'evaluation')}."
    )
    say(f"Emptied caches: {counted(done.cached, 'object')}.")
    for uri in (*done.versions, *(c for c in done.candidates)):
        say(f"Learned from it and cannot unlearn it: {uri}")
    for version in done.trace.unknown:
        say(_unknown(version))
    if done.versions:
        say(
            "Train a new version from a model that did not learn from it, and move the alias: align alias set."
        )


def _unknown(version: str) -> str:
    return (
        f"Cannot be answered for {version}: the snapshot of its run, or of one that it goes on from, is not below "
        "these artifacts (any more)."
    )
