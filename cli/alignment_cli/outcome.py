"""What a run's end means for a script: one exit code per kind of end."""

from __future__ import annotations

from alignment_api.conditions import ConditionType, Reason
from alignment_api.exitcodes import AlignExit
from alignment_api.run import AlignmentRun

__all__ = ["exit_code", "settled"]

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


def settled(run: AlignmentRun) -> bool:
    """Whether a run has come to where it stays: it has ended, or only a person can move it on.

    A person may have moved it already where the status does not say so yet: ``approve`` and ``resume`` change the spec.
    """
    summary = run.status.condition(ConditionType.SUCCEEDED)
    reason = summary.reason if summary is not None else None
    waits = reason is Reason.AWAITING_DECISION and run.spec.gate.decision is None
    return run.finished or waits or (reason is Reason.SUSPENDED and run.spec.suspend)
