"""``spec.training``: how the candidate is trained."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.base import Rule, SpecModel

__all__ = [
    "Engine",
    "LoraSpec",
    "Loss",
    "Method",
    "Precision",
    "SftTokens",
    "TrainingSpec",
    "WarmStartSpec",
]

LearningRate = Annotated[float, Field(gt=0.0, le=1.0)]


class Method(StrEnum):
    """The training method."""

    DPO = "DPO"


class Engine(StrEnum):
    """Which forward pass runs under TRL's trainer."""

    AUTO = "Auto"
    TRL = "TRL"
    PREFIX_SHARED = "PrefixShared"


class Precision(StrEnum):
    """Number format of the forward and backward passes."""

    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"


class Loss(StrEnum):
    """Preference losses, by TRL's names; ``smoothed`` is conservative DPO (label smoothing on the sigmoid loss)."""

    SIGMOID = "sigmoid"
    SMOOTHED = "smoothed"
    SIGMOID_NORM = "sigmoid_norm"
    HINGE = "hinge"
    IPO = "ipo"
    ROBUST = "robust"
    EXO_PAIR = "exo_pair"
    NCA_PAIR = "nca_pair"
    BCO_PAIR = "bco_pair"
    SPPO_HARD = "sppo_hard"
    AOT = "aot"
    AOT_UNPAIRED = "aot_unpaired"
    APO_ZERO = "apo_zero"
    APO_DOWN = "apo_down"
    DISCOPOP = "discopop"


class SftTokens(StrEnum):
    """Which tokens of the chosen side the supervised term counts."""

    ALL = "All"
    CHANGED = "Changed"


SMOOTHING_LOSSES = frozenset({Loss.SMOOTHED, Loss.ROBUST, Loss.EXO_PAIR})
"""Losses that need a label smoothing above 0."""
SMOOTHED_LOSSES = SMOOTHING_LOSSES | {Loss.AOT, Loss.AOT_UNPAIRED}
"""Losses in which a label smoothing is; the others would leave it out without a word."""


class WarmStartSpec(SpecModel):
    """Supervised training on the chosen side before DPO; on edits of a weak base it keeps DPO from breaking it."""

    epochs: Annotated[int, Field(ge=1, le=20)] = Field(default=1, description="Passes over the chosen side.")
    learning_rate: LearningRate | None = Field(
        default=None,
        description="Peak learning rate; omitted: 2e-4 with LoRA, 1e-5 with full weights, at a width of 4096, more for narrower models.",
    )


class LoraSpec(SpecModel):
    """Train a low-rank adapter instead of all weights."""

    rank: Annotated[int, Field(ge=1, le=1024)] = Field(default=16, description="Rank of the adapter.")
    alpha: Annotated[int, Field(ge=1, le=4096)] = Field(default=32, description="Scale of the adapter.")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0, description="Dropout inside the adapter; the base is always trained without."
    )
    target_modules: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        default="all-linear", description="all-linear, or module names separated by commas."
    )


class TrainingSpec(SpecModel):
    """Method, loss and schedule."""

    RULES = (
        Rule(
            "!(self.loss in ['smoothed', 'robust', 'exo_pair']) || (has(self.labelSmoothing) && self.labelSmoothing > 0.0)",
            "labelSmoothing must be above 0 for the losses smoothed, robust and exo_pair",
            lambda s: s.loss not in SMOOTHING_LOSSES or (s.label_smoothing or 0.0) > 0.0,
        ),
        Rule(
            "!has(self.labelSmoothing) || self.labelSmoothing == 0.0 || self.loss in ['smoothed', 'robust', 'exo_pair', 'aot', 'aot_unpaired']",
            "labelSmoothing is used by the losses smoothed, robust, exo_pair, aot and aot_unpaired only; take loss smoothed for label smoothing on sigmoid",
            lambda s: not s.label_smoothing or s.loss in SMOOTHED_LOSSES,
        ),
        Rule(
            "!has(self.dpopWeight) || self.loss == 'sigmoid'",
            "dpopWeight needs the loss sigmoid: DPO-Positive is a change of that loss",
            lambda s: s.dpop_weight is None or s.loss is Loss.SIGMOID,
        ),
    )

    method: Method = Field(default=Method.DPO, description="Direct Preference Optimization.")
    engine: Engine = Field(
        default=Engine.AUTO,
        description="PrefixShared computes the tokens that both answers share once, exactly; TRL is the plain trainer. Auto and PrefixShared use TRL, with a line in the log, where sharing is not exact for the model.",
    )
    loss: Loss = Field(
        default=Loss.SIGMOID, description="Preference loss, by TRL's name; smoothed is conservative DPO."
    )
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] | None = Field(
        default=None,
        description="Assumed share of wrong labels, for the losses that use it: smoothed, robust, exo_pair, aot and aot_unpaired.",
    )
    beta: Annotated[float, Field(gt=0.0, le=100.0)] | None = Field(
        default=None,
        description="Strength of the pull to the reference; larger keeps the policy nearer to it. Omitted: 8 over the median number of tokens by which the answers of a pair differ, within 0.1 and 1; 0.1 for the losses ipo and sigmoid_norm.",
    )
    sft_weight: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        default=None,
        description="Weight of the supervised term on the chosen side; omitted: 0.2 where the pairs are edits, else 0.",
    )
    sft_tokens: SftTokens = Field(
        default=SftTokens.ALL,
        description="Tokens that the supervised term counts: All of the chosen side, or those Changed against the rejected side, which suits edits.",
    )
    dpop_weight: Annotated[float, Field(gt=0.0, le=1000.0)] | None = Field(
        default=None,
        description="Penalty of DPO-Positive (arXiv 2402.13228) on a chosen side that becomes less likely than under the reference; a guard for pairs that differ little. Omitted: off.",
    )
    warm_start: WarmStartSpec | None = Field(
        default=None, description="Supervised training on the chosen side first; omitted: off."
    )
    lora: LoraSpec | None = Field(default=None, description="Low-rank adapter; omitted: full weights.")
    epochs: Annotated[int, Field(ge=1, le=100)] = Field(default=3, description="Passes over the train side.")
    learning_rate: LearningRate | None = Field(
        default=None,
        description="Peak learning rate; omitted: 1e-4 with LoRA, 1e-6 with full weights, at a width of 4096, times 4096 / width; with LoRA times the square root of that.",
    )
    pairs_per_step: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None,
        description="Pairs per optimizer step over all devices; omitted: 16, fewer where pairs are few.",
    )
    max_length: Annotated[int, Field(ge=16, le=1_000_000)] = Field(
        default=1024,
        description="Longest prompt plus answer in tokens; longer pairs are dropped at prepare and counted.",
    )
    precision: Precision = Field(default=Precision.BFLOAT16, description="Number format of the passes.")
    selection_fraction: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        default=0.1,
        description="Share of the train side set apart to choose the checkpoint: the last one, unless an earlier one is better by more than chance. Never the gate's holdout; 0 keeps the last one.",
    )
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = Field(
        default=0, description="Seed of everything random."
    )
