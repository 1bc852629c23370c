"""Deletes run folders below ``artifacts`` whose time is over. Called after each publication and by ``align gc``.

Conservative: a folder goes only when its newest object is older than the days that the run itself was given (runs
of several products may share one place), and never when an alias points, or last pointed, to the version that came
from it. Ledger and caches are not run folders and stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from alignment_api.spec import ArtifactsSpec
from alignment_api.stage import StageResult
from alignment_trainer.models.aliases import read_alias
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import delete_folder
from alignment_trainer.storage.store import ObjectStore

__all__ = ["RunFolder", "collect_expired", "delete_expired", "expired_runs", "run_folders"]

StoreOf = Callable[[str], ObjectStore]
_SHORTEST: Final = timedelta(days=1)
_DEFAULT_DAYS: Final[int] = ArtifactsSpec.model_fields["retention_days"].default
_PER_PUBLICATION: Final = 20
"""Folders deleted after one publication at most: housekeeping must not hold up a release."""


@dataclass(frozen=True)
class RunFolder:
    """One run's artifacts. version: name of the version it would publish. newest: of its objects; size: bytes."""

    uri: str
    version: str
    newest: datetime
    objects: int
    size: int


def run_folders(artifacts_uri: str, stores: StoreOf) -> tuple[RunFolder, ...]:
    """All runs below ``artifacts``, by URI. One listing, however many there are."""
    root = uris.join(artifacts_uri, "runs") + "/"
    found: dict[str, RunFolder] = {}
    for info in stores(root).list(root):
        parts = uris.relative(info.uri, root).split("/")
        if len(parts) < 3:
            continue  # not ours: <namespace>/<name>-<uid8>/…
        uri = uris.join(root, parts[0], parts[1]) + "/"
        modified = info.modified or datetime.now(UTC)
        old = found.get(uri, RunFolder(uri, parts[1], modified, 0, 0))
        found[uri] = RunFolder(
            uri, old.version, max(old.newest, modified), old.objects + 1, old.size + info.size
        )
    return tuple(found[uri] for uri in sorted(found))


def expired_runs(
    artifacts_uri: str,
    stores: StoreOf,
    *,
    now: datetime,
    retention_days: int | None = None,
    keep: Iterable[str] = (),
) -> tuple[RunFolder, ...]:
    """Runs that may go, oldest first.

    retention_days: for all of them; None: each run's own. keep: URIs that stay whatever their age.
    """
    kept = set(keep)
    expired = (
        run
        for run in run_folders(artifacts_uri, stores)
        if run.uri not in kept and _over(run, now, retention_days, stores) and not _in_use(run, stores)
    )
    return tuple(sorted(expired, key=lambda run: run.newest))


def delete_expired(runs: Iterable[RunFolder], stores: StoreOf) -> tuple[RunFolder, ...]:
    """Delete what :func:`expired_runs` found; returns what is gone.

    What has been written to or pointed to since stays: between the two a person was asked, who may have taken long.
    """
    gone = []
    for run in runs:
        if not _written_since(run, stores) and not _in_use(run, stores):
            delete_folder(stores(run.uri), run.uri)
            gone.append(run)
    return tuple(gone)


def collect_expired(
    artifacts_uri: str,
    stores: StoreOf,
    *,
    now: datetime,
    retention_days: int | None = None,
    keep: Iterable[str] = (),
    at_most: int = _PER_PUBLICATION,
) -> tuple[str, ...]:
    """Delete runs that may go, oldest first, ``at_most`` of them; returns their URIs."""
    expired = expired_runs(artifacts_uri, stores, now=now, retention_days=retention_days, keep=keep)
    return tuple(run.uri for run in delete_expired(expired[:at_most], stores))


def _written_since(run: RunFolder, stores: StoreOf) -> bool:
    return any(info.modified is None or info.modified > run.newest for info in stores(run.uri).list(run.uri))


def _over(run: RunFolder, now: datetime, days: int | None, stores: StoreOf) -> bool:
    """Whether a run's time is over; its own days are read only where it is older than the shortest retention."""
    age = now - run.newest
    return age > _SHORTEST and age > timedelta(days=days or _own_days(run, stores))


def _own_days(run: RunFolder, stores: StoreOf) -> int:
    """The run's own ``artifacts.retentionDays``, as prepare noted it; the default where it got not so far."""
    uri = uris.join(run.uri, "data", "manifest.json")
    store = stores(uri)
    if store.stat(uri) is None:
        return _DEFAULT_DAYS
    try:
        return int(json.loads(store.get(uri)[0])["retentionDays"])
    except (ValueError, KeyError, TypeError):
        return _DEFAULT_DAYS


def _in_use(run: RunFolder, stores: StoreOf) -> bool:
    """True when an alias beside the version that this run published points to it, or did before its last move."""
    uri = uris.join(run.uri, "results", "publish.json")
    store = stores(uri)
    if store.stat(uri) is None:
        return False
    try:
        published = StageResult.model_validate_json(store.get(uri)[0]).published
    except ValidationError:
        return True  # written by another version of the product: better kept
    if published is None:
        return True
    aliases = uris.join(uris.parent(uris.parent(published.uri)), "aliases") + "/"
    alias_store = stores(aliases)
    for info in alias_store.list(aliases):
        found = read_alias(info.uri, alias_store)
        if found is None:
            continue
        targets = (found[0].target, found[0].previous)
        if any(target is not None and target.version == published.version for target in targets):
            return True
    return False
