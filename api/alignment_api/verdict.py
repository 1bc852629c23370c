"""The verdict as it stands in a run's status and in the report."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from alignment_api.base import DnsLabel, Message, StatusModel, map_list_of
from alignment_api.metrics import MetricName
from alignment_api.spec.gate import CriterionMode

__all__ = ["CriterionVerdict", "Result", "Verdict"]


class Result(StrEnum):
    """Three-valued: a small holdout is not a failure."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


class CriterionVerdict(StatusModel):
    """One criterion and what became of it."""

    name: DnsLabel = Field(description="Name of the criterion.")
    metric: MetricName = Field(description="Metric that was compared.")
    selector: Annotated[str, Field(max_length=63)] = Field(
        default="", description="Which set, where there are several."
    )
    mode: CriterionMode = Field(
        default=CriterionMode.BLOCKING, description="Blocking counts; DryRun is shown only."
    )
    result: Result = Field(description="Passed, Failed or Inconclusive.")
    limit: float | None = Field(
        default=None, description="What the bound must lie beyond: the criterion's minimum or maximum."
    )
    estimate: float | None = Field(default=None, description="Point estimate; absent when unavailable.")
    bound: float | None = Field(default=None, description="The one-sided bound that decided.")
    p_value: float | None = Field(
        default=None, description="Of the metric lying on the wrong side of the limit."
    )
    alpha: float | None = Field(default=None, description="Error reserved for this decision.")
    needed_pairs: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Held-out pairs for 80 % power at the minimum effect."
    )
    message: Message | None = Field(default=None, description="Why unavailable, or what to know.")


class Verdict(StatusModel):
    """The gate's decision."""

    result: Result = Field(description="Passed, Failed or Inconclusive, over the blocking criteria.")
    criteria: tuple[CriterionVerdict, ...] = map_list_of("Every criterion.", "name", maximum=16)
    decided_time: datetime | None = Field(default=None, description="When the verdict was reached.")
    decision_ignored: bool = Field(
        default=False,
        description="True when spec.gate.decision was there before the evidence; such a decision does not count.",
    )
