"""``spec.evaluation``: what the candidate is compared with, and how."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.base import DnsLabel, ModelUri, Rule, SourceUri, SpecModel, map_list_of, section

__all__ = [
    "ChampionRef",
    "EvaluationSpec",
    "GenerationSpec",
    "JudgeSpec",
    "JudgeType",
    "NamedSet",
    "SecretKeyRef",
]


class JudgeType(StrEnum):
    """Who compares two generated texts."""

    NONE = "None"
    REWARD_MODEL = "RewardModel"
    OPENAI_COMPATIBLE = "OpenAICompatible"


class SecretKeyRef(SpecModel):
    """One key of a Secret in the run's namespace."""

    name: DnsLabel = Field(description="Name of the Secret.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        default="apiKey", description="Key within the Secret."
    )


class ChampionRef(SpecModel):
    """The model to beat."""

    uri: ModelUri = Field(description="Model folder or alias, e.g. s3://models/notes/aliases/champion.")


class GenerationSpec(SpecModel):
    """How texts are generated for the comparison."""

    prompts: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=400, description="Holdout prompts to answer; fewer where the holdout is smaller."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=32_768)] = Field(
        default=256, description="Longest generated answer in tokens."
    )
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        default=0.7,
        description="Sampling temperature; for editBurden, the champion's best of this, a higher and two lower ones.",
    )


class JudgeSpec(SpecModel):
    """An automatic judge of generated pairs; both orders are asked."""

    RULES = (
        Rule(
            "(self.type == 'RewardModel') == has(self.uri)",
            "uri belongs to, and is required by, type RewardModel",
            lambda s: (s.type is JudgeType.REWARD_MODEL) == (s.uri is not None),
        ),
        Rule(
            "self.type == 'OpenAICompatible' ? has(self.url) && has(self.model) : !has(self.url) && !has(self.model)",
            "url and model belong to, and are required by, type OpenAICompatible",
            lambda s: (
                s.url is not None and s.model is not None
                if s.type is JudgeType.OPENAI_COMPATIBLE
                else s.url is None and s.model is None
            ),
        ),
    )

    type: JudgeType = Field(default=JudgeType.NONE, description="None, RewardModel or OpenAICompatible.")
    uri: ModelUri | None = Field(default=None, description="Sequence-classification model (RewardModel).")
    url: Annotated[str, StringConstraints(max_length=1024, pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None,
        description="Base URL of an OpenAI-compatible endpoint, ending before /chat/completions.",
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        default=None, description="Model name to ask for (OpenAICompatible)."
    )
    secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with the API key (OpenAICompatible)."
    )
    maximum_requests: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=10_000, description="Cap on requests of one evaluation."
    )
    maximum_tokens: Annotated[int, Field(ge=1, le=10_000_000_000)] = Field(
        default=10_000_000, description="Cap on tokens, prompt and answer, of one evaluation."
    )


class NamedSet(SpecModel):
    """A named file of texts or prompts."""

    name: DnsLabel = Field(description="Name by which criteria select it.")
    uri: SourceUri = Field(description="JSONL file; rows hold text (anchors) or prompt (refusals).")


class EvaluationSpec(SpecModel):
    """Champion, generations, judge and side checks."""

    champion: ChampionRef | None = Field(
        default=None,
        description="The model to beat; omitted: what the publish alias holds. Where the alias does not exist yet: spec.model.",
    )
    generation: GenerationSpec = section(GenerationSpec, "How answers are generated.")
    judge: JudgeSpec = section(JudgeSpec, "Who compares generated answers.")
    anchors: tuple[NamedSet, ...] = map_list_of("Texts whose likelihood must not fall.", "name", maximum=16)
    refusals: tuple[NamedSet, ...] = map_list_of("Prompts that must stay refused.", "name", maximum=16)
