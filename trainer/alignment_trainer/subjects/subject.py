"""Who takes part in a pair, and the names that somebody asks for.

A mark is a hash of a name and its kind: it answers whether a name was there to whoever knows the name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alignment_trainer.data.fields import LONGEST_NAME, name_form
from alignment_trainer.errors import RequestError

__all__ = ["Kind", "Subject", "mark", "marks_of", "participants"]


class Kind(StrEnum):
    """What a name may be the name of."""

    ID = "id"
    GROUP = "group"
    ACTOR = "actor"


def participants(row: dict[str, Any]) -> dict[Kind, set[str]]:
    """Names in a row of a snapshot, in the form in which they are compared; a field that is empty names nobody."""
    names = {
        Kind.ID: {row["pair_id"], *row["event_ids"]},
        Kind.GROUP: {row["group"]},
        Kind.ACTOR: {row["actor"], *(row.get("other_actors") or ())},
    }
    return {kind: {name_form(name) for name in found} - {""} for kind, found in names.items()}


def mark(kind: Kind, name: str) -> str:
    """The mark of one name: 32 hex digits."""
    return hashlib.sha256(f"{kind}\x1f{name}".encode()).hexdigest()[:32]


def marks_of(row: dict[str, Any]) -> frozenset[str]:
    """Marks of all who take part in a row of a snapshot."""
    return frozenset(mark(kind, name) for kind, names in participants(row).items() for name in names)


@dataclass(frozen=True)
class Subject:
    """Names to look for, each as any of ``kinds``. Raises RequestError for a name that no row can have."""

    names: frozenset[str]
    kinds: frozenset[Kind] = frozenset(Kind)

    def __post_init__(self) -> None:
        names = frozenset(name_form(name) for name in self.names)
        if not names or not all(0 < len(name) <= LONGEST_NAME for name in names):
            raise RequestError(
                f"A name is empty or longer than {LONGEST_NAME} characters; nothing was looked for or changed. "
                "Is a variable of your script not set?",
                reason="NameInvalid",
            )
        object.__setattr__(self, "names", names)

    def match(self, row: dict[str, Any]) -> tuple[Kind, ...]:
        """As what the subject takes part in a pair of a snapshot; empty when it does not."""
        found = participants(row)
        return tuple(kind for kind in Kind if kind in self.kinds and found[kind] & self.names)

    @property
    def marks(self) -> frozenset[str]:
        """Marks of the names, of each kind."""
        return frozenset(mark(kind, name) for kind in self.kinds for name in self.names)
