"""The resource ``AlignmentRun``: one pass from preference signal to a published model or a reasoned refusal."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from alignment_api.base import Rule, SpecModel, StatusModel, TransitionRule, section
from alignment_api.conditions import ConditionType, Reason
from alignment_api.names import API_VERSION, KIND, MAXIMUM_RUN_NAME
from alignment_api.spec import AlignmentRunSpec
from alignment_api.status import AlignmentRunStatus

__all__ = ["AlignmentRun", "Metadata", "transition_errors"]

_NAME = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
RunName = Annotated[str, StringConstraints(max_length=MAXIMUM_RUN_NAME, pattern=_NAME)]


class Metadata(StatusModel):
    """The part of Kubernetes' metadata that the product reads."""

    name: RunName = Field(description="Name of the run, at most 40 characters.")
    namespace: Annotated[str, StringConstraints(max_length=63)] = "default"
    uid: Annotated[str, StringConstraints(max_length=64)] = ""
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


def _decision_was_asked_for(new: AlignmentRun, old: AlignmentRun | None) -> bool:
    if old is None or new.spec.gate.decision is None or old.spec.gate.decision is not None:
        return True
    summary = old.status.condition(ConditionType.SUCCEEDED)
    return summary is not None and summary.reason is Reason.AWAITING_DECISION


class AlignmentRun(SpecModel):
    """One pass from preference signal to a published model, or a reasoned refusal."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"size(self.metadata.name) <= {MAXIMUM_RUN_NAME}",
            f"metadata.name may have at most {MAXIMUM_RUN_NAME} characters, because children append to it",
            lambda run: len(run.metadata.name) <= MAXIMUM_RUN_NAME,
        ),
        Rule(
            f"self.metadata.name.matches('{_NAME}')",
            "metadata.name must begin with a letter, may hold only small letters, digits and -, and must not end "
            "with -, because children named after it get addresses",
            lambda run: re.match(_NAME, run.metadata.name) is not None,
        ),
    )
    TRANSITIONS: ClassVar[tuple[TransitionRule, ...]] = (
        # Two rules, because the API server's cost estimate takes whatever lies behind an optional oldSelf for endless.
        TransitionRule(
            "oldSelf.hasValue() || !has(self.spec.gate.decision)",
            "spec.gate.decision cannot be set when the run is created: nobody has asked for one yet",
            lambda new, old: old is not None or new.spec.gate.decision is None,
            optional_old=True,
        ),
        TransitionRule(
            "!has(self.spec.gate.decision) || has(oldSelf.spec.gate.decision)"
            " || (has(oldSelf.status) && has(oldSelf.status.conditions)"
            " && oldSelf.status.conditions.exists(c, c.type == 'Succeeded' && c.reason == 'AwaitingDecision'))",
            "spec.gate.decision can only be set while the run awaits a decision (reason AwaitingDecision)",
            _decision_was_asked_for,
        ),
    )

    api_version: Literal["alignment.dev/v1alpha1"] = API_VERSION
    kind: Literal["AlignmentRun"] = KIND
    metadata: Metadata
    spec: AlignmentRunSpec = Field(
        description="What is wanted; immutable but for gate.decision, suspend and ttlSecondsAfterFinished."
    )
    status: AlignmentRunStatus = section(AlignmentRunStatus, "What was observed.")

    @property
    def finished(self) -> bool:
        """True once ``Succeeded`` is True or False."""
        summary = self.status.condition(ConditionType.SUCCEEDED)
        return summary is not None and summary.status != "Unknown"


def transition_errors(new: AlignmentRun, old: AlignmentRun | None) -> list[str]:
    """Sentences of the change rules that ``new`` breaks against ``old``; what the API server checks, for embedded runs."""
    pairs: list[tuple[SpecModel, SpecModel | None]] = [
        (new, old),
        (new.spec, old.spec if old else None),
        (new.spec.gate, old.spec.gate if old else None),
    ]
    return [
        rule.message
        for after, before in pairs
        for rule in after.TRANSITIONS
        if (before is not None or rule.optional_old) and not rule.holds(after, before)
    ]
