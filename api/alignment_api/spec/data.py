"""``spec.data``: where the signal comes from, what of it may be used, how it is split."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.base import Fraction, Rule, SourceUri, SpecModel, list_of, section

__all__ = [
    "Chains",
    "Contradictions",
    "DataSource",
    "DataSpec",
    "EventsPolicy",
    "Exclusion",
    "GroupBy",
    "HoldoutSpec",
    "Origin",
    "Redaction",
    "RedactionMode",
    "SignificantEdit",
    "SourceFormat",
]


class SourceFormat(StrEnum):
    """How rows of a source are read."""

    AUTO = "Auto"
    PAIRS = "Pairs"
    OPENAI = "OpenAI"
    TRANSCRIPT = "Transcript"
    EVENTS = "Events"


class Origin(StrEnum):
    """Who made the preferences of a source."""

    HUMAN = "Human"
    SYNTHETIC = "Synthetic"


class Chains(StrEnum):
    """What becomes of edits of edits."""

    COLLAPSE = "Collapse"
    SEPARATE = "Separate"


class RedactionMode(StrEnum):
    """What happens where a detector finds an identifier."""

    NONE = "None"
    REPLACE = "Replace"
    REFUSE = "Refuse"


class Contradictions(StrEnum):
    """What happens to the same two answers preferred in both orders."""

    DROP = "Drop"
    KEEP = "Keep"


class GroupBy(StrEnum):
    """What stays together on one side of the split."""

    GROUP = "group"
    CONVERSATION = "conversation"


class DataSource(SpecModel):
    """One glob of files with preference pairs or approval events."""

    uri: SourceUri = Field(
        description="Glob of .jsonl, .jsonl.gz, .jsonl.zst or .parquet files, e.g. s3://feedback/notes/**/*.jsonl.gz."
    )
    format: SourceFormat = Field(
        default=SourceFormat.AUTO, description="How rows are read; Auto recognises the format of each row."
    )
    origin: Origin = Field(
        default=Origin.HUMAN,
        description="Human, or Synthetic when a model made the preferences; synthetic pairs never enter the holdout.",
    )


class SignificantEdit(SpecModel):
    """Which edits count as a preference."""

    RULES = (
        Rule(
            "self.minimumDistance < self.maximumDistance",
            "minimumDistance must be below maximumDistance",
            lambda s: s.minimum_distance < s.maximum_distance,
        ),
    )

    minimum_distance: Fraction = Field(
        default=0.02, description="Smallest normalised edit distance (0 to 1) that counts as an edit."
    )
    maximum_distance: Fraction = Field(
        default=0.9, description="Largest one: beyond it the text was replaced rather than edited."
    )


class EventsPolicy(SpecModel):
    """How approval events become pairs."""

    significant_edit: SignificantEdit = section(
        SignificantEdit, "Bounds on the relative size of an edit that makes a pair."
    )
    chains: Chains = Field(
        default=Chains.COLLAPSE,
        description="Collapse: a chain of edits becomes one pair, from the first response to the last text. Separate: one pair per edit. A chain never crosses the split.",
    )


class Exclusion(SpecModel):
    """A file of ids, groups or actors that must not be used."""

    uri: SourceUri = Field(description="JSONL file whose rows hold an id, a group or an actor to leave out.")


class Redaction(SpecModel):
    """Patterns replaced or refused before anything is written. Patterns are not de-identification."""

    RULES = (
        Rule(
            "self.mode == 'None' || size(self.detectors) > 0",
            "detectors must name at least one detector unless mode is None",
            lambda s: s.mode is RedactionMode.NONE or len(s.detectors) > 0,
        ),
    )

    mode: RedactionMode = Field(
        default=RedactionMode.NONE, description="None, Replace what is found, or Refuse the row."
    )
    detectors: tuple[Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")], ...] = (
        list_of(
            "Detectors by name: dates, phones, emails, recordNumbers, … or one installed as a plug-in.",
            maximum=32,
        )
    )


class HoldoutSpec(SpecModel):
    """The pairs that decide and are never trained on; stable across runs with the same salt."""

    fraction: Annotated[float, Field(ge=0.01, le=0.9)] = Field(
        default=0.2, description="Expected share of groups that are held out."
    )
    group_by: GroupBy = Field(
        default=GroupBy.GROUP,
        description="What stays on one side: the row's group (patient, thread, author), falling back to the conversation; or always the conversation.",
    )
    salt: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        default="v1",
        description="Key of the split. Keep it for every run of a product: a changed salt makes a new holdout from pairs that earlier models were trained on.",
    )


class DataSpec(SpecModel):
    """Sources of preference signal and the rules under which they are used."""

    sources: tuple[DataSource, ...] = list_of("Where the signal lies.", minimum=1, maximum=64)
    events: EventsPolicy = section(EventsPolicy, "How approval events become pairs.")
    exclusions: tuple[Exclusion, ...] = list_of(
        "Files naming ids, groups or actors that must not be used; applied before anything else.", maximum=64
    )
    redaction: Redaction = section(Redaction, "Identifiers to replace or refuse before anything is written.")
    contradictions: Contradictions = Field(
        default=Contradictions.DROP,
        description="Drop both, or Keep, pairs that prefer the same two answers both ways.",
    )
    holdout: HoldoutSpec = section(HoldoutSpec, "How pairs are held out for the decision.")
    minimum_pairs: Annotated[int, Field(ge=1, le=100_000_000)] = Field(
        default=500, description="Fewer usable pairs than this end the run with TooFewPairs."
    )
    maximum_invalid_fraction: Fraction = Field(
        default=0.01, description="Share of rows that may be invalid before the run ends with DataInvalid."
    )
    maximum_synthetic_fraction: Fraction = Field(
        default=0.5,
        description="Largest share of synthetic pairs on the train side; the rest is sampled away.",
    )
