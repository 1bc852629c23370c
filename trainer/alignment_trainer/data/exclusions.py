"""Ids, groups and actors that must not be used: read by prepare, added to by an erasure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from alignment_trainer.data.fields import LONGEST_NAME, optional_string
from alignment_trainer.data.files import read_rows
from alignment_trainer.data.rows import Event, Pair, RowError
from alignment_trainer.errors import DataError, RequestError, TemporaryError
from alignment_trainer.storage.store import Absent, ConditionFailed, Matches, ObjectStore

__all__ = ["EXCLUSIONS", "Exclusions", "add_exclusions", "read_exclusions"]

EXCLUSIONS: Final = "exclusions.jsonl"
"""File below ``artifacts`` that an erasure adds to and that every prepare with these artifacts reads."""
_ATTEMPTS: Final = 8


@dataclass(frozen=True)
class Exclusions:
    """Who and what is left out. ids: of rows, and of pairs, which are told by their content once they are made."""

    ids: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    actors: frozenset[str] = frozenset()

    def covers(self, row: Pair | Event) -> bool:
        """True when the row must not be used. Names are in their form, which is never empty where one is excluded."""
        return row.id in self.ids or row.group in self.groups or row.actor in self.actors

    @property
    def digest(self) -> str:
        """sha256 over all names: which erasures a snapshot honoured."""
        names = [
            f"{kind}:{name}" for kind in ("ids", "groups", "actors") for name in sorted(getattr(self, kind))
        ]
        return "sha256:" + hashlib.sha256("\n".join(names).encode()).hexdigest()


def read_exclusions(uris: list[str], store: Callable[[str], ObjectStore]) -> Exclusions:
    """All names in the files. A line that cannot be understood ends the run: an erasure must not be skipped."""
    found: dict[str, set[str]] = {"id": set(), "group": set(), "actor": set()}
    for uri in uris:
        for place, row in read_rows(uri, store(uri)):
            names = _names(row, found)
            if not names:
                raise DataError(
                    f"{place}: an exclusion needs an id, a group or an actor as a string; mend the line.",
                    reason="ExclusionInvalid",
                )
            for key, name in names.items():
                found[key].add(name)
    return Exclusions(frozenset(found["id"]), frozenset(found["group"]), frozenset(found["actor"]))


def add_exclusions(uri: str, names: Sequence[Mapping[str, str]], store: ObjectStore) -> None:
    """Add rows ``{id?, group?, actor?}`` to a file of exclusions; those that are there already are not added again.

    Raises RequestError for names that a run could not read, TemporaryError when others keep writing the file.
    """
    if not all(_names(row, row) for row in names):
        raise RequestError(
            f"One of the names is empty or longer than {LONGEST_NAME} characters; nothing was added to {uri}.",
            reason="NameInvalid",
        )
    for _ in range(_ATTEMPTS):
        present, etag = b"", None
        if store.stat(uri) is not None:
            present, info = store.get(uri)
            etag = info.etag
        known = set(present.decode("utf-8").split("\n"))
        lines = [json.dumps(dict(sorted(row.items())), ensure_ascii=False) for row in names]
        added = "".join(f"{line}\n" for line in lines if line not in known)
        if not added:
            return
        if present and not present.endswith(b"\n"):
            present += b"\n"
        try:
            store.put(
                uri, present + added.encode(), condition=Matches(etag) if etag is not None else Absent()
            )
        except ConditionFailed:
            continue
        return
    raise TemporaryError(
        f"{uri} is being written by others again and again; try again.", reason="ObjectChanged"
    )


def _names(row: object, kinds: Iterable[str]) -> dict[str, str]:
    """Names in a row as data rows have them (numbers as text); empty where there is none, or one that says nothing."""
    try:
        found = (
            {kind: optional_string(row, kind) for kind in kinds if kind in row}
            if isinstance(row, dict)
            else {}
        )
    except RowError:
        return {}
    return found if all(found.values()) else {}
