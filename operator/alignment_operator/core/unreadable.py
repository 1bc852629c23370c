"""What a run says that this version cannot read: another version wrote it, or another definition let it through. Pure.

Called by the reconciler in place of the plan. The status is kept as it is, fields that only the other version knows
included; only the summary is replaced.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_operator.core.actions import Transition

__all__ = ["unreadable"]

Json = dict[str, Any]
_PROBLEM_CHARACTERS = 700
_REMEDY = (
    "Bring the operator and its resource definition to one version; until then nothing is started or stopped."
)


def unreadable(run: Json, problem: str, now: datetime) -> tuple[Json, tuple[Transition, ...]] | None:
    """The next status of a run and what to tell of it; None when its status says so already.

    run: as the API server has it, with its status. problem: which fields do not fit. now: timezone-aware.
    """
    status: Json = run.get("status") or {}
    conditions: list[Json] = status.get("conditions") or []
    before = next((c for c in conditions if c.get("type") == ConditionType.SUCCEEDED), {})
    message = f"This version of the operator cannot read the run: {problem[:_PROBLEM_CHARACTERS]}. {_REMEDY}"
    said = {
        "type": str(ConditionType.SUCCEEDED),
        "status": str(ConditionStatus.UNKNOWN),
        "reason": str(Reason.UNREADABLE),
        "message": message,
        "observedGeneration": (run.get("metadata") or {}).get("generation", 1),
    }
    if before.items() >= said.items():
        return None
    unchanged = before.get("status") == ConditionStatus.UNKNOWN
    since = before.get("lastTransitionTime") if unchanged else None
    summary = said | {"lastTransitionTime": since or now.isoformat().replace("+00:00", "Z")}
    others = [c for c in conditions if c.get("type") != ConditionType.SUCCEEDED]
    told = Transition(ConditionType.SUCCEEDED, Reason.UNREADABLE, message, warning=True)
    return {**status, "conditions": [summary, *others]}, (told,)
