"""``spec.gate``: what must hold for a release, and who has the last word."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.base import DnsLabel, Rule, SpecModel, TransitionRule, map_list_of, section
from alignment_api.metrics import METRICS, MetricName

__all__ = [
    "Approval",
    "BudgetMode",
    "Criterion",
    "CriterionMode",
    "Decision",
    "DecisionResult",
    "ErrorBudget",
    "GateSpec",
    "OnInconclusive",
]


class CriterionMode(StrEnum):
    """Whether a criterion counts."""

    BLOCKING = "Blocking"
    DRY_RUN = "DryRun"


class OnInconclusive(StrEnum):
    """What an Inconclusive verdict leads to."""

    REJECT = "Reject"
    HOLD = "Hold"


class Approval(StrEnum):
    """Who releases after a Passed verdict."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class DecisionResult(StrEnum):
    """A person's word."""

    APPROVE = "Approve"
    REJECT = "Reject"


class BudgetMode(StrEnum):
    """Whether repeated decisions on one holdout share an error budget."""

    LIMITED = "Limited"
    UNLIMITED = "Unlimited"


_SELECTED = tuple(name for name, metric in METRICS.items() if metric.selected)


class Criterion(SpecModel):
    """One limit on one metric. Passed when the whole interval is on the right side of the limit."""

    RULES = (
        Rule(
            "has(self.minimum) != has(self.maximum)",
            "set exactly one of minimum and maximum",
            lambda s: (s.minimum is None) != (s.maximum is None),
        ),
        Rule(
            f"(self.metric in {[str(name) for name in _SELECTED]}) == has(self.selector)",
            f"selector belongs to, and is required by, the metrics {' and '.join(_SELECTED)}",
            lambda s: METRICS[s.metric].selected == (s.selector is not None),
        ),
    )

    name: DnsLabel = Field(description="Name of the criterion, unique within the gate.")
    metric: MetricName = Field(description="Metric whose interval is compared; docs/gate.md defines each.")
    selector: DnsLabel | None = Field(
        default=None, description="Which anchor or refusal set, for metrics that have several."
    )
    minimum: Annotated[float, Field(ge=-1e6, le=1e6)] | None = Field(
        default=None, description="The metric must lie above this."
    )
    maximum: Annotated[float, Field(ge=-1e6, le=1e6)] | None = Field(
        default=None, description="The metric must lie below this."
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = Field(
        default=0.95, description="One-sided confidence of the bound; the error budget may ask for more."
    )
    minimum_effect: Annotated[float, Field(gt=0.0, le=1e6)] | None = Field(
        default=None,
        description="Distance from the limit that is worth detecting; neededPairs is computed for it.",
    )
    mode: CriterionMode = Field(
        default=CriterionMode.BLOCKING, description="Blocking counts; DryRun is shown and never counted."
    )

    @property
    def limit(self) -> float:
        """The limit, whichever side it is on."""
        limit = self.maximum if self.maximum is not None else self.minimum
        assert limit is not None  # noqa: S101  the rule above
        return limit

    @property
    def upwards(self) -> bool:
        """True when the metric must lie above the limit."""
        return self.minimum is not None


class ErrorBudget(SpecModel):
    """How often a model that is no better may be released by chance, over a year of decisions on one holdout."""

    RULES = (
        Rule(
            "self.mode == 'Limited' || has(self.reason)",
            "reason is required when mode is Unlimited",
            lambda s: s.mode is BudgetMode.LIMITED or s.reason is not None,
        ),
    )

    mode: BudgetMode = Field(
        default=BudgetMode.LIMITED,
        description="Limited shares perYear over the year's decisions; Unlimited decides outside the budget, and the ledger says so.",
    )
    per_year: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.05, description="Chance per year of releasing at least one model that is no better."
    )
    decisions_per_year: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=52, description="Decisions planned per year on this alias and holdout."
    )
    reason: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        default=None, description="Why the budget is unlimited; shown in every report."
    )


class Decision(SpecModel):
    """A person's word on a run that waits for it."""

    result: DecisionResult = Field(description="Approve or Reject.")
    by: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="Who decides; the admission policy of the chart lets this only be the requesting user."
    )
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(description="Why.")


def _same_but_decision(new: GateSpec, old: GateSpec) -> bool:
    return new.model_copy(update={"decision": None}) == old.model_copy(update={"decision": None})


def _frozen(name: str) -> str:
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


class GateSpec(SpecModel):
    """Criteria, error budget and the person's word."""

    TRANSITIONS = (
        TransitionRule(
            " && ".join(f"({_frozen(n)})" for n in ("criteria", "errorBudget", "onInconclusive", "approval")),
            "gate is immutable except for decision; clone the run to change it (align clone)",
            _same_but_decision,
        ),
        TransitionRule(
            "!has(oldSelf.decision) || (has(self.decision) && self.decision == oldSelf.decision)",
            "decision may be set once and not changed",
            lambda new, old: old.decision is None or new.decision == old.decision,
        ),
    )

    criteria: tuple[Criterion, ...] = map_list_of(
        "What must hold; omitted: the default set, which docs/gate.md lists and justifies.",
        "name",
        maximum=16,
    )
    error_budget: ErrorBudget = section(ErrorBudget, "Budget of wrong releases over repeated decisions.")
    on_inconclusive: OnInconclusive = Field(
        default=OnInconclusive.REJECT,
        description="Reject, or Hold for a person, when the evidence does not decide.",
    )
    approval: Approval = Field(
        default=Approval.AUTOMATIC,
        description="Automatic, or Manual: a person approves after a Passed verdict.",
    )
    decision: Decision | None = Field(
        default=None,
        description="Set by a person while the run awaits a decision; set once; cannot overrule Failed.",
    )
