"""A status under construction: conditions with correct transition times, stages by name.

The plan writes into a draft; :meth:`Draft.status` gives the immutable result. Nothing here decides.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.names import STAGES, StageName
from alignment_api.run import AlignmentRun
from alignment_api.status import AlignmentRunStatus, Condition, LastFailure, StageStatus
from alignment_operator.core.actions import Transition
from alignment_operator.core.outcome import Outcome

__all__ = ["STAGE_CONDITION", "Draft"]

STAGE_CONDITION = {
    StageName.PREPARE: ConditionType.DATA_READY,
    StageName.TRAIN: ConditionType.TRAINED,
    StageName.EVALUATE: ConditionType.EVALUATED,
    StageName.PUBLISH: ConditionType.PUBLISHED,
}
_ORDER = (
    ConditionType.SUCCEEDED,
    ConditionType.DATA_READY,
    ConditionType.TRAINED,
    ConditionType.EVALUATED,
    ConditionType.GATE_PASSED,
    ConditionType.PUBLISHED,
)
_MESSAGE_CHARACTERS = 1024


class Draft:
    """The next status of a run, begun from the present one. All conditions exist from the first visit on."""

    def __init__(self, run: AlignmentRun, now: datetime) -> None:
        self._run = run
        self._now = now
        self._fields: dict[str, Any] = {}
        self._conditions = {c.type: c for c in run.status.conditions}
        self._stages = {s.name: s for s in run.status.stages}
        for kind in _ORDER:
            if kind not in self._conditions:
                self.condition(kind, ConditionStatus.UNKNOWN, Reason.PENDING, "")

    def stage(self, name: StageName) -> StageStatus:
        """A stage as drafted so far."""
        return self._stages.get(name) or StageStatus(name=name)

    def set_stage(self, name: StageName, **changes: Any) -> None:
        """Change fields of a stage."""
        self._stages[name] = self.stage(name).model_copy(update=changes)

    def get(self, field: str) -> Any:
        """A field as drafted so far."""
        return self._fields.get(field, getattr(self._run.status, field))

    def set(self, **fields: Any) -> None:
        """Change other fields of the status."""
        self._fields.update(fields)

    def condition(self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: str) -> None:
        """Set a condition; its transition time moves only when its status does."""
        old = self._conditions.get(kind)
        since = old.last_transition_time if old is not None and old.status is status else self._now
        self._conditions[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=_shortened(message),
            last_transition_time=since,
            observed_generation=self._run.metadata.generation,
        )

    def waiting(self, reason: Reason, message: str) -> None:
        """The run goes on; ``reason`` says what it does or waits for."""
        self.condition(ConditionType.SUCCEEDED, ConditionStatus.UNKNOWN, reason, message)

    def end(self, reason: Reason, message: str) -> None:
        """The run has ended."""
        status = ConditionStatus.TRUE if reason is Reason.PUBLISHED else ConditionStatus.FALSE
        self.condition(ConditionType.SUCCEEDED, status, reason, message)
        self.set(progress=None)

    def fail(self, stage: StageName, outcome: Outcome, ended: datetime) -> None:
        """Remember a failure for people."""
        self.set(
            last_failure=LastFailure(
                stage=stage,
                reason=outcome.reason[:64],
                message=_shortened(outcome.message),
                exit_code=outcome.exit_code,
                time=ended,
            )
        )

    def status(self) -> AlignmentRunStatus:
        """The finished status. Conditions and stages keep a fixed order, so that equal content is equal."""
        generation = self._run.metadata.generation
        conditions = (self._conditions[kind] for kind in _ORDER)
        return self._run.status.model_copy(
            update={
                **self._fields,
                "observed_generation": generation,
                "conditions": tuple(
                    c
                    if c.observed_generation == generation
                    else c.model_copy(update={"observed_generation": generation})
                    for c in conditions
                ),
                "stages": tuple(self._stages[name] for name in STAGES if name in self._stages),
            }
        )

    def transitions(self) -> tuple[Transition, ...]:
        """Conditions whose status or reason differs from what the run has, the first visit's waiting ones left out."""
        before = {c.type: (c.status, c.reason) for c in self._run.status.conditions}
        return tuple(
            Transition(
                c.type,
                c.reason,
                c.message,
                warning=c.status is ConditionStatus.FALSE
                or c.reason in (Reason.RETRYING, Reason.COHORTS_CONTRADICT),
            )
            for c in (self._conditions[kind] for kind in _ORDER)
            if before.get(c.type) != (c.status, c.reason) and c.reason is not Reason.PENDING
        )


def _shortened(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"
