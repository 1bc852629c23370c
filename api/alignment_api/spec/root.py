"""``spec``: one pass from preference signal to a published model or a reasoned refusal."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alignment_api.base import ModelUri, Rule, SpecModel, TransitionRule, section
from alignment_api.metrics import METRICS
from alignment_api.spec.data import DataSpec
from alignment_api.spec.evaluation import EvaluationSpec, JudgeType
from alignment_api.spec.gate import CriterionMode, GateSpec
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


_SETS = {str(name): metric.sets for name, metric in METRICS.items() if metric.selected}
_JUDGED = [str(name) for name, metric in METRICS.items() if metric.judged]


def _named_in(metric: str, sets: str) -> str:
    known = f"has(self.evaluation.{sets}) && self.evaluation.{sets}.exists(s, s.name == c.selector)"
    return f"(c.metric == '{metric}' && {known})"


def _selectors_name_sets(spec: AlignmentRunSpec) -> bool:
    return all(
        criterion.selector
        in {known.name for known in getattr(spec.evaluation, METRICS[criterion.metric].sets)}
        for criterion in spec.gate.criteria
        if criterion.selector is not None
    )


def _judged_where_it_blocks(spec: AlignmentRunSpec) -> bool:
    return spec.evaluation.judge.type is not JudgeType.NONE or not any(
        METRICS[criterion.metric].judged and criterion.mode is CriterionMode.BLOCKING
        for criterion in spec.gate.criteria
    )


class AlignmentRunSpec(SpecModel):
    """What to align, with what, how to judge it and where to publish it."""

    # What evaluate would find out only after the training: such a criterion is Inconclusive whatever was trained.
    RULES = (
        Rule(
            "!has(self.gate.criteria) || self.gate.criteria.all(c, !has(c.selector) || "
            + " || ".join(_named_in(*pair) for pair in _SETS.items())
            + ")",
            "the selector of a criterion must name a set: "
            + ", ".join(f"of evaluation.{sets} for {metric}" for metric, sets in _SETS.items()),
            _selectors_name_sets,
        ),
        Rule(
            "self.evaluation.judge.type != 'None' || !has(self.gate.criteria)"
            f" || self.gate.criteria.all(c, c.mode != 'Blocking' || !(c.metric in {_JUDGED}))",
            f"a blocking criterion on {' or '.join(_JUDGED)} needs evaluation.judge; without one its mode can only be DryRun",
            _judged_where_it_blocks,
        ),
    )
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
