"""Between evaluate and publish: what the verdict and a person's word lead to."""

from __future__ import annotations

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.gate import NOTHING_CARRIES
from alignment_api.run import AlignmentRun
from alignment_api.spec import Approval, DecisionResult, OnInconclusive
from alignment_api.spec.gate import CriterionMode
from alignment_api.verdict import CriterionVerdict, Result, Verdict
from alignment_operator.core.draft import Draft

__all__ = ["apply_gate", "describe"]


def apply_gate(run: AlignmentRun, draft: Draft) -> bool:
    """Set GatePassed and, where the run ends or waits here, Succeeded. Returns True when publish may start."""
    verdict: Verdict | None = draft.get("verdict")
    assert verdict is not None  # noqa: S101  evaluate has ended, and recording it set the verdict
    gate = run.spec.gate
    story = describe(verdict)
    if verdict.result is Result.FAILED:
        return _end(draft, Reason.GATE_FAILED, story)
    if verdict.result is Result.INCONCLUSIVE and gate.on_inconclusive is OnInconclusive.REJECT:
        return _end(draft, Reason.GATE_INCONCLUSIVE, story)
    if verdict.result is Result.PASSED and gate.approval is Approval.AUTOMATIC:
        draft.condition(ConditionType.GATE_PASSED, ConditionStatus.TRUE, Reason.PASSED, story)
        return True
    decision = None if verdict.decision_ignored else gate.decision
    if decision is None:
        waiting = f"{story} Waiting for a person: align approve or align reject, with a reason."
        if verdict.decision_ignored:
            waiting = f"{story} The decision in the spec was set before there was evidence and does not count; clone the run."
        draft.condition(ConditionType.GATE_PASSED, ConditionStatus.UNKNOWN, Reason.AWAITING_DECISION, waiting)
        draft.waiting(Reason.AWAITING_DECISION, waiting)
        return False
    words = f"{decision.by}: {decision.reason}"
    if decision.result is DecisionResult.REJECT:
        return _end(draft, Reason.REJECTED, f"Rejected by {words}")
    draft.condition(ConditionType.GATE_PASSED, ConditionStatus.TRUE, Reason.APPROVED, f"Approved by {words}")
    return True


def _end(draft: Draft, reason: Reason, message: str) -> bool:
    draft.condition(ConditionType.GATE_PASSED, ConditionStatus.FALSE, reason, message)
    draft.end(reason, message)
    return False


def describe(verdict: Verdict) -> str:
    """The verdict in a sentence or two: the criteria that decided it, with their numbers."""
    deciding = [
        c for c in verdict.criteria if c.mode is CriterionMode.BLOCKING and c.result is verdict.result
    ]
    words = "; ".join(_criterion(c) for c in deciding) or NOTHING_CARRIES
    return f"{verdict.result}: {words}."


def _criterion(criterion: CriterionVerdict) -> str:
    metric = f"{criterion.metric}({criterion.selector})" if criterion.selector else str(criterion.metric)
    if criterion.estimate is None or criterion.bound is None:
        return f"{criterion.name}: {metric} unavailable ({criterion.message or 'no reason given'})"
    text = f"{criterion.name}: {metric} {criterion.estimate:.3g}, bound {criterion.bound:.3g}"
    if criterion.result is Result.INCONCLUSIVE and criterion.needed_pairs:
        text += f", about {criterion.needed_pairs} held-out pairs needed"
    return text
