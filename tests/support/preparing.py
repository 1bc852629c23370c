"""Preference data in files, and what prepare makes of it: without a model, or as the whole stage."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.spec import DataSpec
from alignment_api.stage import RunIdentity, StageRequest
from alignment_api.status import Funnel
from alignment_trainer.data.assemble import Assembled, Assembly, assemble
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.split import Side
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import ObjectStore
from support.models import full_weights
from support.publishing import SilentProgress
from support.runs import UID, manifest
from support.tiny import save_tiny_tokenizer

__all__ = ["Prepared", "adds_up", "context", "edit", "pair", "prepared", "signal", "write_rows"]

Row = dict[str, Any]


def edit(number: int, **fields: Any) -> Row:
    """An edit event whose texts nobody else has."""
    row = {
        "id": f"e{number}",
        "time": f"2026-01-{1 + number % 28:02d}T12:00:00Z",
        "prompt": f"Summarise the visit of guest number {number}, who came by train and stayed {number * 7} days.",
        "response": f"The guest {number} came, looked around, and left after some days without a word.",
        "signal": "edit",
        "edited": f"Guest {number} arrived by train, saw the whole town, and left content after a week.",
        "group": f"guest-{number}",
    }
    return row | fields


def signal(name: str, number: int, response: str, **fields: Any) -> Row:
    """An event with another signal than edit."""
    row = {
        "id": f"{name}{number}-{response[:8]}",
        "time": "2026-01-05T12:00:00Z",
        "prompt": f"What does guest number {number} like to eat on day {number * 3} of the stay?",
        "response": response,
        "signal": name,
        "group": f"guest-{number}",
    }
    return row | fields


def pair(number: int, **fields: Any) -> Row:
    """A pair in TRL's standard form."""
    row = {
        "prompt": f"Describe the garden of house number {number} on road {number * 11}.",
        "chosen": f"House {number} has a garden with an old apple tree and a bench.",
        "rejected": f"The house with number {number} has some garden somewhere.",
        "group": f"house-{number}",
    }
    return row | fields


def write_rows(path: Path, rows: Iterable[Row | str | bytes]) -> str:
    """Write rows as JSON lines (raw lines as they are), gzipped if the name says so; returns the file's URI."""
    lines = [
        row if isinstance(row, bytes) else row.encode() if isinstance(row, str) else json.dumps(row).encode()
        for row in rows
    ]
    data = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path.as_uri()


class Prepared:
    """What assembling made of the sources."""

    def __init__(self, found: Assembled, folder: Path) -> None:
        self.found = found
        self.funnel: Funnel = found.funnel
        self.train: list[Pair] = list(found.sides.pairs(Side.TRAIN))
        self.holdout: list[Pair] = list(found.sides.pairs(Side.HOLDOUT))
        self.pairs = sorted([*self.train, *self.holdout], key=lambda p: p.place)
        found.account.write_quarantine(folder / "quarantine.jsonl")
        lines = (folder / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
        self.quarantine: list[Row] = [json.loads(line) for line in lines]

    @property
    def reasons(self) -> dict[int, str]:
        """Reason of each quarantined row by its line; for tests with one file."""
        return {row["line"]: row["reason"] for row in self.quarantine}

    @property
    def sides(self) -> dict[str, Side]:
        """Side of each group that has pairs."""
        both = ((Side.TRAIN, self.train), (Side.HOLDOUT, self.holdout))
        return {p.group: side for side, pairs in both for p in pairs}


def prepared(
    folder: Path,
    rows: Iterable[Row | str | bytes] | None = None,
    *,
    special: frozenset[str] = frozenset(),
    stores: Callable[[str], ObjectStore] | None = None,
    **data: Any,
) -> Prepared:
    """Assemble ``rows`` (or the ``sources`` in ``data``) under a data spec with these fields."""
    if rows is not None:
        data["sources"] = [{"uri": write_rows(folder / "rows.jsonl", rows)}]
    spec = DataSpec.model_validate(data)
    work = Assembly(store=stores or Stores(), scratch=folder / "scratch", special=special)
    result = Prepared(assemble(spec, work), folder)
    adds_up(result)
    return result


def adds_up(result: Prepared) -> None:
    """Every row is in exactly one count, and every row left out is in the quarantine once."""
    funnel = result.funnel
    counted = (funnel.invalid, funnel.excluded, funnel.duplicates, funnel.contradictions, funnel.unpaired)
    assert funnel.rows == funnel.pairs + sum(counted) + sum(funnel.dropped.values())
    assert funnel.pairs == funnel.train + funnel.holdout == len(result.pairs)
    merged = funnel.dropped.get("collapsed", 0) + funnel.dropped.get("joined", 0)
    assert len(result.quarantine) == funnel.rows - funnel.pairs - merged
    places = [(row["source"], row["line"]) for row in result.quarantine]
    assert len(places) == len(set(places))


def context(
    folder: Path,
    scratch: Path,
    *,
    stores: Callable[[str], ObjectStore] | None = None,
    evaluation: dict[str, Any] | None = None,
    **data: Any,
) -> StageContext:
    """What the prepare stage is given; its model has a real tokenizer and weights that nobody loads."""
    model = folder / "model"
    if not model.exists():
        full_weights(model)
        save_tiny_tokenizer(model)
    wire = manifest(
        "notes",
        model={"uri": model.as_uri() + "/"},
        data={"minimumPairs": 1, **data},
        evaluation=evaluation or {},
        publish={"uri": (folder / "published").as_uri() + "/"},
        artifacts={"uri": (folder / f"artifacts-{scratch.name}").as_uri() + "/"},
    )
    request = StageRequest(
        stage=StageName.PREPARE,
        run=RunIdentity(name="notes", namespace="team", uid=UID),
        spec=AlignmentRun.model_validate(wire).spec,
    )
    scratch.mkdir(parents=True, exist_ok=True)
    return StageContext(
        request=request,
        store=stores or Stores(),
        scratch=scratch,
        progress=SilentProgress(),
        stop=threading.Event(),
    )
