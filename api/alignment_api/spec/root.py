"""``spec``: one pass from preference signal to a published model or a reasoned refusal."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alignment_api.base import ModelUri, SpecModel, TransitionRule, section
from alignment_api.spec.data import DataSpec
from alignment_api.spec.evaluation import EvaluationSpec
from alignment_api.spec.gate import GateSpec
from alignment_api.spec.pods import PodsSpec
from alignment_api.spec.storage import ArtifactsSpec, PublishSpec, StorageSpec
from alignment_api.spec.training import TrainingSpec

__all__ = ["AlignmentRunSpec", "ModelSpec"]


class ModelSpec(SpecModel):
    """The model to align."""

    uri: ModelUri = Field(
        description="Folder with full weights, with a LoRA adapter and base.json, or an alias; s3://, file://, pvc:// or hf://org/name@revision."
    )


IMMUTABLE = (
    "model",
    "data",
    "training",
    "evaluation",
    "publish",
    "artifacts",
    "storage",
    "pods",
    "backoffLimit",
    "activeDeadlineSeconds",
)
"""Fields of the spec that never change; gate guards its own parts, suspend and ttlSecondsAfterFinished may change."""

_ATTRIBUTES = (
    "model",
    "data",
    "training",
    "evaluation",
    "publish",
    "artifacts",
    "storage",
    "pods",
    "backoff_limit",
    "active_deadline_seconds",
)


def _frozen(name: str) -> str:
    # Both has() tests: removing an optional field, or adding it later, is a change as well.
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def _unchanged(attribute: str) -> TransitionRule:
    field = IMMUTABLE[_ATTRIBUTES.index(attribute)]
    return TransitionRule(
        _frozen(field),
        f"{field} is immutable; clone the run to change it (align clone)",
        lambda new, old: bool(getattr(new, attribute) == getattr(old, attribute)),
    )


class AlignmentRunSpec(SpecModel):
    """What to align, with what, how to judge it and where to publish it."""

    TRANSITIONS = tuple(_unchanged(name) for name in _ATTRIBUTES)

    model: ModelSpec = Field(description="The model to align.")
    data: DataSpec = Field(description="Preference signal and how it may be used.")
    training: TrainingSpec = section(TrainingSpec, "How the candidate is trained.")
    evaluation: EvaluationSpec = section(EvaluationSpec, "How the candidate is compared.")
    gate: GateSpec = section(GateSpec, "What must hold for a release.")
    publish: PublishSpec = Field(description="Where a released model goes.")
    artifacts: ArtifactsSpec = Field(description="Where everything else is kept.")
    storage: StorageSpec = section(StorageSpec, "How object storage is reached.")
    pods: PodsSpec = section(PodsSpec, "Settings of the stages' pods.")
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = Field(
        default=3, description="Attempts per stage beyond the first, for failures that count."
    )
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = Field(
        default=86_400,
        description="Time in running stages before the run ends; queued, suspended and held time is free.",
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] = Field(
        default=604_800,
        description="Seconds after which finished Jobs are deleted; a change holds for Jobs that start after it.",
    )
    suspend: bool = Field(
        default=False, description="Stop the running stage; false goes on from its checkpoint."
    )
