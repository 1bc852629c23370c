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
from alignment_api.spec import AlignmentRunSpec, BudgetMode, ErrorBudget
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
    """One decision's share. alpha: None where it was made outside the budget (``errorBudget: Unlimited``)."""

    run_uid: str
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
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

    alpha: for this decision. decisions, outside, spent: entries within a year, those of them that were made outside the
    budget, and the error that the others reserved. uri: of the ledger.
    """

    alpha: Alpha
    budget: ErrorBudget
    decisions: int
    outside: int
    spent: float
    uri: str

    def to_wire(self) -> dict[str, object]:
        """For the report."""
        limited = self.budget.mode is BudgetMode.LIMITED
        return {
            "mode": str(self.budget.mode),
            "perYear": self.budget.per_year,
            "decisionsPerYear": self.budget.decisions_per_year,
            "alpha": self.alpha.value if limited else None,
            "decisions": self.decisions,
            "outside": self.outside,
            "spent": round(self.spent, 12),
            "message": self.alpha.message,
            "ledger": self.uri,
        }


def ledger_uri(spec: AlignmentRunSpec) -> str:
    """Object that holds the ledger of a run's alias and holdout."""
    key = "\n".join((spec.publish.uri.rstrip("/"), spec.publish.alias, spec.data.holdout.salt))
    return uris.join(spec.artifacts.uri, "ledger", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json")


def reserve(
    spec: AlignmentRunSpec, run_uid: str, store: ObjectStore, now: datetime | None = None
) -> Reservation:
    """Reserve this decision's alpha: the year's budget in equal shares, for as many decisions as were planned.

    A decision outside the budget is entered as well: those after it, and whoever reads them, must know of it.
    Raises RequestError when the store does not honour conditions, TemporaryError when others keep winning.
    """
    budget = spec.gate.error_budget
    limited = budget.mode is BudgetMode.LIMITED
    now = now or datetime.now(UTC)
    uri = ledger_uri(spec)
    require_conditional_puts(store, uris.parent(uri))
    share = budget.per_year / budget.decisions_per_year if limited else None
    free = None if limited else Alpha(1.0, f"error budget unlimited: {budget.reason}")
    for _ in range(_TRIES):
        ledger, condition = _read(uri, spec, store)
        recent = [entry for entry in ledger.entries if entry.time > now - _YEAR]
        mine = next((entry for entry in ledger.entries if entry.run_uid == run_uid), None)
        if mine is not None:
            return _reservation(budget, uri, free or Alpha(mine.alpha), recent)
        if share is not None and _sum(recent) + share > budget.per_year + _ROUNDING:
            return _reservation(budget, uri, Alpha(None, _spent(recent)), recent)
        entry = Entry(run_uid=run_uid, alpha=share, time=now)
        grown = ledger.model_copy(update={"entries": (*ledger.entries, entry)})
        try:
            store.put(uri, json.dumps(grown.to_wire(), indent=2).encode(), condition=condition)
        except ConditionFailed:
            continue
        return _reservation(budget, uri, free or Alpha(share), [*recent, entry])
    raise TemporaryError(f"{uri} kept changing while {_TRIES} tries were made to reserve from it; try again.")


def _reservation(budget: ErrorBudget, uri: str, alpha: Alpha, recent: list[Entry]) -> Reservation:
    outside = sum(entry.alpha is None for entry in recent)
    return Reservation(alpha, budget, len(recent), outside, _sum(recent), uri)


def _sum(recent: list[Entry]) -> float:
    """Error that was reserved."""
    return sum(entry.alpha for entry in recent if entry.alpha is not None)


def _spent(recent: list[Entry]) -> str:
    """Why nothing is left, and what to do. recent: entries within a year; none when one decision is over the budget."""
    shares = [entry for entry in recent if entry.alpha is not None]
    free = f"; the next is free on {min(e.time for e in shares) + _YEAR:%Y-%m-%d}" if shares else ""
    return (
        f"the error budget of this alias and holdout is spent by {len(shares)} decisions within a year{free}, or use a new "
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
