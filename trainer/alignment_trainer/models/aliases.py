"""Aliases: small JSON pointers to published versions, moved by conditional puts only.

``<publish>/aliases/<name>`` points to ``<publish>/versions/<version>/``. Whoever moves one says which state it
expects; two who expect the same state can never both win.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from alignment_api.base import Digest, StatusModel
from alignment_api.names import API_VERSION
from alignment_api.stage import RunIdentity
from alignment_trainer.errors import RequestError
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import SUMS, read_sums, sums_digest
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.store import Absent, ConditionFailed, Matches, ObjectInfo, ObjectStore

__all__ = [
    "Alias",
    "AliasTarget",
    "alias_uri",
    "is_alias",
    "read_alias",
    "set_alias",
    "swap_alias",
    "version_folder",
    "versions",
]


class AliasTarget(StatusModel):
    """A published version."""

    uri: str
    version: str
    digest: Digest


class Alias(StatusModel):
    """Content of an alias object. run: who published the version; previous: what the alias pointed to before."""

    api_version: Literal["alignment.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelAlias"] = "ModelAlias"
    target: AliasTarget
    previous: AliasTarget | None = None
    run: RunIdentity | None = None
    moved_by: str = ""
    moved_time: datetime


def alias_uri(publish_uri: str, alias: str) -> str:
    """URI of an alias object."""
    return uris.join(publish_uri, "aliases", alias)


def version_folder(publish_uri: str, version: str) -> str:
    """URI of a version's folder; ends with ``/``."""
    return uris.join(publish_uri, "versions", version) + "/"


def is_alias(uri: str) -> bool:
    """True for ``…/aliases/<name>``: no trailing slash, and ``aliases`` before the name."""
    return not uri.endswith("/") and uris.name(uris.parent(uri)) == "aliases"


def read_alias(uri: str, store: ObjectStore) -> tuple[Alias, str] | None:
    """An alias and its etag; None when it does not exist. Raises RequestError when it is not one."""
    if store.stat(uri) is None:
        return None
    data, info = store.get(uri, maximum_bytes=64 * 1024)
    try:
        return Alias.model_validate_json(data), info.etag
    except ValidationError:
        raise RequestError(
            f"{uri} is not an alias; set it anew with `align alias set`, or delete it.", reason="AliasInvalid"
        ) from None


def swap_alias(uri: str, alias: Alias, store: ObjectStore, *, expected: str | None) -> ObjectInfo:
    """Move an alias that still has the etag ``expected`` (None: does not exist yet). Raises ConditionFailed."""
    text = alias.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    return store.put(
        uri, text.encode() + b"\n", condition=Matches(expected) if expected is not None else Absent()
    )


def versions(publish_uri: str, store: ObjectStore) -> tuple[str, ...]:
    """Names of the complete versions, sorted."""
    return tuple(
        uris.name(uris.parent(info.uri)) for info in store.list(uris.join(publish_uri, "versions", "*", SUMS))
    )


def set_alias(
    publish_uri: str, alias: str, version: str, store: ObjectStore, *, now: datetime, by: str = ""
) -> Alias:
    """Point an alias to a published version: how a release is rolled back.

    Raises RequestError VersionMissing, AliasMoved when someone else moved it meanwhile, or
    ConditionalPutsUnsupported for a store where two could move it at once.
    """
    folder = version_folder(publish_uri, version)
    sums = read_sums(store, folder)
    if sums is None:
        known = ", ".join(versions(publish_uri, store)[-5:]) or "none"
        raise RequestError(
            f"{folder} is not a published version; published are (last five): {known}.",
            reason="VersionMissing",
        )
    require_conditional_puts(store, publish_uri)
    uri = alias_uri(publish_uri, alias)
    present = read_alias(uri, store)
    wanted = Alias(
        target=AliasTarget(uri=folder, version=version, digest=sums_digest(sums)),
        previous=present[0].target if present else None,
        moved_by=by,
        moved_time=now,
    )
    try:
        swap_alias(uri, wanted, store, expected=present[1] if present else None)
    except ConditionFailed:
        raise RequestError(
            f"{uri} was moved by someone else just now; look at it (align alias show) and decide again.",
            reason="AliasMoved",
        ) from None
    return wanted
