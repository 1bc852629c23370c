"""``report.json``: the evaluation as data, for programs. Its JSON schema is published as docs/report.schema.json.

Written by evaluate beside ``report.html``; read by ``align report``, by dashboards, by people's own checks. Fields are
added, never renamed; ``version`` counts changes that an old reader could not survive.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from alignment_api.base import Digest, StatusModel
from alignment_api.evidence import CriterionEvidence, MetricResult
from alignment_api.metrics import MetricFamily
from alignment_api.stage import ArtifactRef, RunIdentity
from alignment_api.status import Funnel, Pins
from alignment_api.verdict import Verdict

__all__ = [
    "REPORT_VERSION",
    "CohortRow",
    "ErrorBudgetReport",
    "Example",
    "Report",
    "ReportedMetric",
    "TemperatureRow",
    "TrainingReport",
]

REPORT_VERSION: Literal[2] = 2


class ReportedMetric(MetricResult):
    """A metric with the words that explain it."""

    unit: str = Field(description="Unit and range.")
    sentence: str = Field(description="What it says, in a sentence.")
    family: MetricFamily = Field(description="What it can show.")


class ErrorBudgetReport(StatusModel):
    """How often this alias and holdout have been decided on, and what this decision may spend."""

    mode: Literal["Limited", "Unlimited"]
    per_year: float = Field(description="Error allowed over a year.")
    decisions_per_year: int = Field(description="Decisions planned for a year.")
    alpha: float | None = Field(
        default=None, description="Reserved for this decision; absent: spent, or unlimited."
    )
    decisions: int = Field(default=0, description="Decisions within a year, this one included.")
    outside: int = Field(default=0, description="Those of them that were made outside the budget.")
    spent: float = Field(default=0.0, description="Error reserved by the others.")
    message: str | None = Field(default=None, description="Why nothing is left, or why there is no limit.")
    ledger: str | None = Field(default=None, description="URI of the ledger.")


class CohortRow(StatusModel):
    """One cohort of the holdout."""

    name: str
    pairs: int
    groups: int
    preference_accuracy: float | None = Field(
        default=None, description="Ties half; absent in fewer than two groups."
    )
    low: float | None = Field(default=None, description="Lower end of its two-sided 95 % interval.")
    high: float | None = Field(default=None, description="Upper end of its two-sided 95 % interval.")
    edit_burden: float | None = Field(
        default=None, description="Mean difference to the champion over the answered edits of the cohort."
    )


class TemperatureRow(StatusModel):
    """The champion at one temperature."""

    temperature: float
    edit_distance: float = Field(description="Mean normalised distance to the final texts, 0 to 1.")
    taken: bool = Field(description="True for the temperature that serves the champion best.")


class Example(StatusModel):
    """One answered prompt with all texts. kind: why it is shown."""

    kind: Literal["Best", "Worst", "Random"]
    prompt: str
    final: str = Field(description="What the person ended up with, or the chosen side.")
    draft: str = Field(description="The rejected side: for edits, what was edited.")
    candidate: str
    champion: str
    candidate_distance: float
    champion_distance: float
    preference: float | None = Field(default=None, description="The judge's, for the candidate.")


class TrainingReport(StatusModel):
    """What is worth knowing of the training; training.json beside the candidate has the rest."""

    schedule: dict[str, Any] = Field(default_factory=dict)
    curve: list[dict[str, Any]] = Field(default_factory=list, description="Logged values by step and phase.")
    train_pairs: int | None = None
    selection_pairs: int | None = Field(
        default=None, description="Of the train side, set apart to choose the checkpoint."
    )
    seconds: float | None = None
    seed: int | None = None
    device: str | None = None
    image: str | None = None
    libraries: dict[str, str] = Field(default_factory=dict)


class Report(StatusModel):
    """Everything the evaluation found."""

    version: Literal[2] = REPORT_VERSION
    created: datetime
    run: RunIdentity
    summary: str = Field(description="The verdict in a sentence or two.")
    verdict: Verdict
    advice: list[str] = Field(default_factory=list, description="What would change the verdict.")
    notes: list[str] = Field(default_factory=list, description="What to know before relying on it.")
    evidence: list[CriterionEvidence]
    metrics: list[ReportedMetric]
    error_budget: ErrorBudgetReport
    judge: dict[str, Any] | None = Field(
        default=None, description="Model, digests, requests and tokens; absent without a judge."
    )
    holdout_pairs: Annotated[int, Field(ge=0)]
    holdout_groups: Annotated[int, Field(ge=0)]
    answered_prompts: Annotated[int, Field(ge=0)]
    temperatures: list[TemperatureRow]
    cohorts: list[CohortRow] = Field(default_factory=list)
    data: Funnel
    training: TrainingReport
    examples: list[Example]
    pins: Pins
    inputs: dict[str, ArtifactRef] = Field(description="Outputs of the stages before, by stage.")
    input_digest: Digest = Field(description="Of everything that determines the evaluation.")
