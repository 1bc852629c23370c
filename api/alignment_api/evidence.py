"""What evaluate hands to the gate: one estimate with bounds per criterion. Numbers only, no statistics here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alignment_api.base import Message, StatusModel
from alignment_api.metrics import MetricName
from alignment_api.spec.gate import Criterion

__all__ = ["CriterionEvidence", "Evidence", "MetricResult"]


class MetricResult(StatusModel):
    """One metric as measured: estimate with a two-sided 95 % interval."""

    name: MetricName = Field(description="Name of the metric.")
    selector: Annotated[str, Field(max_length=63)] = Field(
        default="", description="Which anchor or refusal set; empty where the metric has only one value."
    )
    estimate: float | None = Field(default=None, description="Point estimate; absent when unavailable.")
    low: float | None = Field(default=None, description="Lower end of the two-sided 95 % interval.")
    high: float | None = Field(default=None, description="Upper end of the two-sided 95 % interval.")
    n: Annotated[int, Field(ge=0)] = Field(default=0, description="Observations (pairs or prompts).")
    clusters: Annotated[int, Field(ge=0)] = Field(default=0, description="Independent groups among them.")
    design_effect: float | None = Field(
        default=None, description="Variance between groups over variance without groups; 1 without groups."
    )
    method: Annotated[str, Field(max_length=64)] = Field(
        default="", description="How the interval was computed."
    )
    champion: float | None = Field(default=None, description="The champion's own value, where it has one.")
    message: Message | None = Field(
        default=None, description="Why the metric is unavailable, or what to know about it."
    )


class CriterionEvidence(StatusModel):
    """Evidence for one criterion, at the alpha that was reserved for it.

    low and high are one-sided bounds, each at confidence 1 - alpha: the metric is below ``high`` with that
    confidence, and above ``low`` with that confidence. p_value: of the hypothesis that the metric lies on
    the wrong side of the criterion's limit, or on it.
    """

    criterion: Criterion = Field(description="The criterion as it was applied, defaults resolved.")
    estimate: float | None = Field(default=None, description="Point estimate; absent when unavailable.")
    low: float | None = Field(default=None, description="One-sided lower bound at 1 - alpha.")
    high: float | None = Field(default=None, description="One-sided upper bound at 1 - alpha.")
    p_value: float | None = Field(
        default=None, description="Of the metric lying on the wrong side of the limit."
    )
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        description="Error that was reserved for this decision."
    )
    n: Annotated[int, Field(ge=0)] = Field(default=0, description="Observations.")
    clusters: Annotated[int, Field(ge=0)] = Field(default=0, description="Independent groups among them.")
    needed_pairs: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Held-out pairs for 80 % power at the criterion's minimumEffect."
    )
    message: Message | None = Field(
        default=None, description="Why the metric is unavailable, or what to know about it."
    )


class Evidence(StatusModel):
    """All criteria of one decision, in the order in which they are shown."""

    criteria: tuple[CriterionEvidence, ...] = Field(
        default_factory=tuple, max_length=16, description="Evidence by criterion."
    )
