"""What a run's end means for a script: one exit code per kind of end."""

from __future__ import annotations

from alignment_api.conditions import ConditionType, Reason
from alignment_api.exitcodes import AlignExit
from alignment_api.run import AlignmentRun

__all__ = ["exit_code"]

_CODES = {
    Reason.PUBLISHED: AlignExit.PUBLISHED,
    Reason.GATE_FAILED: AlignExit.GATE_FAILED,
    Reason.REJECTED: AlignExit.GATE_FAILED,
    Reason.GATE_INCONCLUSIVE: AlignExit.UNDECIDED,
    Reason.AWAITING_DECISION: AlignExit.UNDECIDED,
    Reason.SUSPENDED: AlignExit.UNDECIDED,
    Reason.DATA_INVALID: AlignExit.DATA_INVALID,
    Reason.TOO_FEW_PAIRS: AlignExit.DATA_INVALID,
    Reason.REQUEST_INVALID: AlignExit.REQUEST_INVALID,
}


def exit_code(run: AlignmentRun) -> AlignExit:
    """Exit code of ``align run`` for where a run stands; 1 for what has no code of its own."""
    summary = run.status.condition(ConditionType.SUCCEEDED)
    return _CODES.get(summary.reason, AlignExit.OTHER) if summary is not None else AlignExit.OTHER
