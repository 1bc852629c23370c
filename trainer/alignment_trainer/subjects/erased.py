"""What a snapshot held before erasures: ``erased.jsonl`` in its folder, one line a pair, without texts and names.

A model keeps what it learned when the pairs have left; this file is why a later trace can still name it. A line is
``{"side": …, "marks": […]}``, with the marks of everybody who took part (:mod:`alignment_trainer.subjects.subject`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from alignment_trainer.data.split import Side
from alignment_trainer.storage import uris
from alignment_trainer.storage.store import ObjectStore

__all__ = ["ERASED", "ErasedPair", "erased_text", "read_erased"]

ERASED: Final = "erased.jsonl"


@dataclass(frozen=True)
class ErasedPair:
    """A pair that was taken out."""

    side: Side
    marks: frozenset[str]


def read_erased(snapshot: str, stores: Callable[[str], ObjectStore]) -> tuple[ErasedPair, ...]:
    """What was taken out of a snapshot; empty where nothing was."""
    uri = uris.join(snapshot, ERASED)
    store = stores(uri)
    if store.stat(uri) is None:
        return ()
    lines = [json.loads(line) for line in store.get(uri)[0].decode("utf-8").splitlines()]
    return tuple(ErasedPair(Side(line["side"]), frozenset(line["marks"])) for line in lines)


def erased_text(pairs: Iterable[ErasedPair]) -> bytes:
    """The file's content: each pair once, in an order that does not tell which went together."""
    lines = {json.dumps({"side": pair.side, "marks": sorted(pair.marks)}) for pair in pairs}
    return "".join(f"{line}\n" for line in sorted(lines)).encode()
