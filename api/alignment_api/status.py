"""What programs write: the status of an AlignmentRun. Conditions are the truth; everything else explains them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from alignment_api.base import Digest, Message, StatusModel, map_list_of
from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.evidence import MetricResult
from alignment_api.names import StageName
from alignment_api.verdict import Verdict

__all__ = [
    "AlignmentRunStatus",
    "Condition",
    "Funnel",
    "LastFailure",
    "ModelPin",
    "Pins",
    "ProgressStatus",
    "PublishedModel",
    "Share",
    "SourcesPin",
    "StageStatus",
]

_Uri = Annotated[str, Field(max_length=1100)]
_Count = Annotated[int, Field(ge=0)]


class Condition(StatusModel):
    """One condition, as Kubernetes defines them."""

    type: ConditionType = Field(description="State of the run that this condition follows.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Reason = Field(
        description="Why, in one CamelCase word; docs/troubleshooting.md has an entry for each."
    )
    message: Annotated[str, Field(max_length=4096)] = Field(default="", description="Details and what to do.")
    last_transition_time: datetime = Field(description="When status last changed.")
    observed_generation: _Count = Field(default=0, description="Generation of the spec this was written for.")


class ModelPin(StatusModel):
    """A model URI resolved once: which content every later stage gets."""

    uri: _Uri = Field(description="Folder that the URI or alias pointed to.")
    digest: Digest = Field(description="sha256 over the folder's files.")
    alias: _Uri | None = Field(default=None, description="URI of the alias that was followed, if one was.")
    etag: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="Version of the alias object when it was read."
    )
    version: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="Name of the version folder, or hub revision."
    )


class SourcesPin(StatusModel):
    """Files as they were read; the manifest lists every one with size, ETag and sha256."""

    manifest: _Uri = Field(description="URI of the manifest.")
    digest: Digest = Field(description="sha256 over the sorted list of files and their sha256.")
    files: _Count = Field(description="Number of files.")
    bytes: _Count = Field(description="Their total size in bytes.")


class Pins(StatusModel):
    """Everything that moves, resolved once by prepare."""

    model: ModelPin = Field(description="The model to align.")
    champion: ModelPin = Field(
        description="The model to beat; the model itself when there is no champion yet."
    )
    champion_is_model: bool = Field(
        default=False, description="True when no champion was given or its alias did not exist yet."
    )
    alias_etag: Annotated[str, Field(max_length=256)] | None = Field(
        default=None,
        description="Version of the publish alias when prepare read it; absent: it did not exist.",
    )
    sources: SourcesPin = Field(description="The source files.")
    judge: ModelPin | None = Field(
        default=None, description="The reward model that judges; absent without one."
    )
    sets: SourcesPin | None = Field(
        default=None, description="The files of the anchor and refusal sets; absent without any."
    )


class StageStatus(StatusModel):
    """One stage: its attempts and its outcome."""

    name: StageName = Field(description="Name of the stage.")
    attempt: _Count = Field(default=0, description="Number of the newest attempt, from 1.")
    failures: _Count = Field(default=0, description="Attempts that failed and counted against backoffLimit.")
    preemptions: _Count = Field(
        default=0, description="Attempts ended from outside (drain, preemption, suspend); they cost nothing."
    )
    job: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Name of the newest attempt's Job."
    )
    start_time: datetime | None = Field(default=None, description="When the first attempt began to run.")
    attempt_start_time: datetime | None = Field(
        default=None, description="When the newest attempt began to run."
    )
    end_time: datetime | None = Field(default=None, description="When the stage finished.")
    retry_time: datetime | None = Field(default=None, description="When the next attempt may start.")
    running_seconds: Annotated[float, Field(ge=0.0)] = Field(
        default=0.0,
        description="Seconds spent running in ended attempts; counts towards activeDeadlineSeconds.",
    )
    exit_reason: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="How the newest ended attempt ended."
    )
    result_digest: Digest | None = Field(default=None, description="sha256 of the stage's result.")
    artifact_uri: _Uri | None = Field(default=None, description="Where the stage's output lies.")
    artifact_digest: Digest | None = Field(default=None, description="sha256 of the stage's output.")


class Share(StatusModel):
    """A share of cases with its Wilson interval at 95 %."""

    estimate: Annotated[float, Field(ge=0.0, le=1.0)] = Field(description="Share, 0 to 1.")
    low: Annotated[float, Field(ge=0.0, le=1.0)] = Field(description="Lower end of the interval.")
    high: Annotated[float, Field(ge=0.0, le=1.0)] = Field(description="Upper end of the interval.")
    n: _Count = Field(description="Cases.")


class Funnel(StatusModel):
    """How rows became pairs. Every row is in exactly one count.

    rows = pairs + invalid + excluded + duplicates + contradictions + unpaired + the sum of dropped, where
    dropped also holds the further rows of a pair (collapsed links of a chain, joined opposite signals).
    pairs = train + holdout.
    """

    rows: _Count = Field(default=0, description="Rows read from all sources.")
    events: _Count = Field(default=0, description="Rows that are approval events.")
    pairs: _Count = Field(default=0, description="Pairs that are used.")
    train: _Count = Field(default=0, description="Pairs on the train side.")
    holdout: _Count = Field(default=0, description="Pairs held out for the decision.")
    groups: _Count = Field(default=0, description="Groups among the pairs.")
    holdout_groups: _Count = Field(default=0, description="Groups that are held out.")
    invalid: _Count = Field(
        default=0, description="Rows quarantined because they cannot be read as a pair or an event."
    )
    excluded: _Count = Field(default=0, description="Rows left out on request (erasures).")
    duplicates: _Count = Field(default=0, description="Exact repetitions.")
    contradictions: _Count = Field(default=0, description="Rows of pairs preferred both ways.")
    unpaired: _Count = Field(default=0, description="Signals without a partner; never invented into a pair.")
    dropped: dict[Annotated[str, Field(max_length=64)], _Count] = Field(
        default_factory=dict, max_length=64, description="Rows left out for any other reason, by reason."
    )
    synthetic: _Count = Field(default=0, description="Synthetic pairs among the train side.")
    cohorts: _Count = Field(default=0, description="Cohorts among the pairs; the manifest has their sizes.")
    neutralised: _Count = Field(
        default=0, description="Rows in which a special token of the tokenizer was spelled out and broken up."
    )
    redacted: dict[Annotated[str, Field(max_length=64)], _Count] = Field(
        default_factory=dict, max_length=32, description="Identifiers found, by detector of data.redaction."
    )
    chosen_longer: Share | None = Field(
        default=None,
        description="Of pairs whose sides differ in length: how often the chosen side is the longer one.",
    )
    actor_agreement: Share | None = Field(
        default=None,
        description="Of texts that several actors judged: how often two of them agree. n counts texts.",
    )
    cohort_agreement: Share | None = Field(
        default=None,
        description="Of texts that several cohorts judged: how often two of them agree. n counts texts.",
    )
    smallest_effect: Annotated[float, Field(ge=0.0)] | None = Field(
        default=None,
        description="Smallest change of the gate's first superiority metric that the holdout can show with 80 % power.",
    )
    warnings: tuple[Annotated[str, Field(max_length=512)], ...] = Field(
        default_factory=tuple,
        max_length=16,
        description="What to know about the data: small holdout, contradicting cohorts, length preference.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ProgressStatus(StatusModel):
    """How far the running stage is; refreshed about every half minute."""

    stage: StageName = Field(description="The running stage.")
    step: _Count = Field(description="Steps done.")
    steps: _Count = Field(description="Steps in all.")
    percent: Annotated[int, Field(ge=0, le=100)] = Field(description="Share done.")
    eta_seconds: _Count | None = Field(default=None, description="Estimated seconds to go.")
    activity: Annotated[str, Field(max_length=128)] = Field(default="", description="What is being done.")
    updated_time: datetime = Field(description="When this was read.")


class PublishedModel(StatusModel):
    """Where the released version is."""

    uri: _Uri = Field(description="Version folder.")
    version: Annotated[str, Field(max_length=128)] = Field(description="Name of the version.")
    digest: Digest = Field(description="sha256 over the version's files.")
    alias: _Uri | None = Field(
        default=None, description="Alias that points to it; absent when the alias was not moved."
    )


class LastFailure(StatusModel):
    """The newest failure, in the stage's own words."""

    stage: StageName = Field(description="Stage that failed.")
    reason: Annotated[str, Field(max_length=64)] = Field(description="Case, CamelCase.")
    message: Message = Field(description="What is wrong, where, and what to do.")
    exit_code: int | None = Field(default=None, description="Exit code of the process, if it ran.")
    time: datetime = Field(description="When it failed.")


class AlignmentRunStatus(StatusModel):
    """Where a run stands."""

    observed_generation: _Count = Field(
        default=0, description="Generation of the spec this status was written for."
    )
    conditions: tuple[Condition, ...] = map_list_of(
        "Succeeded sums up; the others each follow one step.", "type", maximum=8
    )
    headline: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="The deciding metric with its interval, for the printer column."
    )
    pins: Pins | None = Field(default=None, description="Models and sources as resolved once by prepare.")
    stages: tuple[StageStatus, ...] = map_list_of("Attempts and outcome by stage.", "name", maximum=4)
    data: Funnel | None = Field(default=None, description="How rows became pairs.")
    progress: ProgressStatus | None = Field(default=None, description="How far the running stage is.")
    metrics: tuple[MetricResult, ...] = map_list_of(
        "Metrics of the evaluation.", "name", "selector", maximum=32
    )
    verdict: Verdict | None = Field(default=None, description="The gate's decision, criterion by criterion.")
    published: PublishedModel | None = Field(default=None, description="The released version.")
    last_failure: LastFailure | None = Field(
        default=None,
        description="The newest attempt that failed. What an attempt waits for that has not started (a node, quota, an image) is no failure: the message of Succeeded has the cluster's words.",
    )

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of a type, or None before the first visit."""
        return next((c for c in self.conditions if c.type is type_), None)

    def stage(self, name: StageName) -> StageStatus:
        """A stage's status; an untouched one before its first attempt."""
        return next((s for s in self.stages if s.name is name), None) or StageStatus(name=name)
