"""The holdout is spent, not free: each decision reserves its share of a year's error budget, by run, once.

One object per publish URI, alias and holdout salt (a growing holdout has a new digest each week, so its digest would
never count) lists the decisions with their alpha. Reserved with a conditional write before anything is
computed; a retry of the same run finds its own entry and spends nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import Field, ValidationError

from alignment_api.base import StatusModel
from alignment_api.spec import AlignmentRunSpec, BudgetMode
from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.evaluation.criteria import Alpha
from alignment_trainer.storage import uris
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.store import Absent, Condition, ConditionFailed, Matches, ObjectStore

__all__ = ["Entry", "Ledger", "Reservation", "ledger_uri", "reserve"]

_YEAR: Final = timedelta(days=365)
_TRIES: Final = 20
_ROUNDING: Final = 1e-12


class Entry(StatusModel):
    """One decision's share."""

    run_uid: str
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)]
    time: datetime


class Ledger(StatusModel):
    """Decisions on one alias and holdout."""

    publish_uri: str
    alias: str
    salt: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Reservation:
    """What one decision may spend, and how the year stands with it included.

    alpha: for this decision. decisions, spent: entries within a year and the error that they reserved. uri: of the
    ledger; empty when the budget is unlimited.
    """

    alpha: Alpha
    per_year: float
    decisions_per_year: int
    decisions: int = 0
    spent: float = 0.0
    uri: str = ""

    def to_wire(self) -> dict[str, object]:
        """For the report."""
        return {
            "mode": "Limited" if self.uri else "Unlimited",
            "perYear": self.per_year,
            "decisionsPerYear": self.decisions_per_year,
            "alpha": self.alpha.value if self.uri else None,
            "decisions": self.decisions,
            "spent": round(self.spent, 12),
            "message": self.alpha.message,
            "ledger": self.uri or None,
        }


def ledger_uri(spec: AlignmentRunSpec) -> str:
    """Object that holds the ledger of a run's alias and holdout."""
    key = "\n".join((spec.publish.uri.rstrip("/"), spec.publish.alias, spec.data.holdout.salt))
    return uris.join(spec.artifacts.uri, "ledger", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json")


def reserve(
    spec: AlignmentRunSpec, run_uid: str, store: ObjectStore, now: datetime | None = None
) -> Reservation:
    """Reserve this decision's alpha: the year's budget in equal shares, for as many decisions as were planned.

    Raises RequestError when the store does not honour conditions, TemporaryError when others keep winning.
    """
    budget = spec.gate.error_budget
    if budget.mode is BudgetMode.UNLIMITED:
        free = Alpha(1.0, f"error budget unlimited: {budget.reason}")
        return Reservation(free, budget.per_year, budget.decisions_per_year)
    now = now or datetime.now(UTC)
    uri = ledger_uri(spec)
    require_conditional_puts(store, uris.parent(uri))
    share = budget.per_year / budget.decisions_per_year
    for _ in range(_TRIES):
        ledger, condition = _read(uri, spec, store)
        recent = [entry for entry in ledger.entries if entry.time > now - _YEAR]
        mine = next((entry for entry in ledger.entries if entry.run_uid == run_uid), None)
        if mine is not None:
            return _reservation(spec, uri, Alpha(mine.alpha), recent)
        if sum(entry.alpha for entry in recent) + share > budget.per_year + _ROUNDING:
            return _reservation(spec, uri, Alpha(None, _spent(recent)), recent)
        entry = Entry(run_uid=run_uid, alpha=share, time=now)
        grown = ledger.model_copy(update={"entries": (*ledger.entries, entry)})
        try:
            store.put(uri, json.dumps(grown.to_wire(), indent=2).encode(), condition=condition)
        except ConditionFailed:
            continue
        return _reservation(spec, uri, Alpha(share), [*recent, entry])
    raise TemporaryError(f"{uri} kept changing while {_TRIES} tries were made to reserve from it; try again.")


def _reservation(spec: AlignmentRunSpec, uri: str, alpha: Alpha, recent: list[Entry]) -> Reservation:
    budget = spec.gate.error_budget
    spent = sum(entry.alpha for entry in recent)
    return Reservation(alpha, budget.per_year, budget.decisions_per_year, len(recent), spent, uri)


def _spent(recent: list[Entry]) -> str:
    """Why nothing is left, and what to do. recent: entries within a year; none when one decision is over the budget."""
    free = f"; the next is free on {min(e.time for e in recent) + _YEAR:%Y-%m-%d}" if recent else ""
    return (
        f"the error budget of this alias and holdout is spent by {len(recent)} decisions within a year{free}, or use a new "
        "holdout.salt with pairs that no model was trained on"
    )


def _read(uri: str, spec: AlignmentRunSpec, store: ObjectStore) -> tuple[Ledger, Condition]:
    if store.stat(uri) is None:
        empty = Ledger(publish_uri=spec.publish.uri, alias=spec.publish.alias, salt=spec.data.holdout.salt)
        return empty, Absent()
    data, info = store.get(uri)
    try:
        return Ledger.model_validate_json(data), Matches(info.etag)
    except ValidationError as error:
        raise RequestError(
            f"{uri} is not a ledger ({error.error_count()} faults); restore it from a backup.",
            reason="LedgerInvalid",
        ) from None
