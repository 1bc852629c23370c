"""What metrics are computed from: holdout pairs, their log-probabilities, generated texts. Gathered once.

Plain arrays and strings; a metric needs no model. Order of all lists: the holdout's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alignment_trainer.data.rows import Kind, Pair
from alignment_trainer.evaluation.judges.base import Judgement

__all__ = ["AnchorLosses", "Drift", "Generation", "Logps", "Material", "Placebos", "RefusalAnswers"]


@dataclass(frozen=True)
class Logps:
    """Log-probabilities of the answers under one model: nats, summed over answer tokens, prompt excluded."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]


@dataclass(frozen=True)
class Generation:
    """One generated answer. tokens: answer tokens; finished: it ended by itself."""

    text: str
    tokens: int
    finished: bool


@dataclass(frozen=True)
class Drift:
    """The candidate's generations as the champion sees them, one number each: nats, summed over their tokens.

    champion_logps: log-probabilities; divergences: KL(candidate || champion) of the next-token distributions at
    their positions, at least 0; NaN where the models' vocabularies differ.
    """

    champion_logps: NDArray[np.float64]
    divergences: NDArray[np.float64]


@dataclass(frozen=True)
class AnchorLosses:
    """Losses on an anchor set, nats per token, one number per text."""

    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]


@dataclass(frozen=True)
class RefusalAnswers:
    """Answers to the prompts of a refusal set, one per prompt."""

    candidate: list[str]
    champion: list[str]


@dataclass(frozen=True)
class Placebos:
    """Edits to no purpose, as likely to the champion as the people's edits.

    indices: of the pairs that have one. candidate, champion: log-probabilities of the placebos, nats. mean_gap: of
    placebo minus chosen under the champion, nats; unmatched: edited pairs for which no placebo was near enough.
    """

    indices: list[int]
    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]
    mean_gap: float
    unmatched: int


@dataclass(frozen=True)
class Material:
    """Everything the metrics see.

    prompted: indices into ``pairs`` of the pairs whose prompts were answered; candidate and champion: their
    generations, at one temperature. champion_best: its texts at ``champion_temperature``, where they need the fewest
    edits. drift: of the candidate's. chosen_tokens: answer tokens of the chosen side, one per pair. words: in lower case, of the data and the champion's texts. judgements: one per answered
    prompt; None without a judge. temperatures: mean edit distance of the champion at each temperature tried.
    """

    pairs: list[Pair]
    candidate_logps: Logps
    champion_logps: Logps
    chosen_tokens: NDArray[np.int64]
    prompted: list[int]
    candidate: list[Generation]
    champion: list[Generation]
    champion_best: list[str]
    drift: Drift
    champion_temperature: float
    words: frozenset[str]
    placebos: Placebos | None = None
    anchors: dict[str, AnchorLosses] = field(default_factory=dict)
    refusals: dict[str, RefusalAnswers] = field(default_factory=dict)
    judgements: list[Judgement] | None = None
    temperatures: dict[float, float] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        """Group of each pair; where a pair has none, its conversation."""
        return [pair.group or pair.conversation for pair in self.pairs]

    @property
    def prompted_groups(self) -> list[str]:
        """Group of each answered pair."""
        groups = self.groups
        return [groups[index] for index in self.prompted]

    @property
    def edited(self) -> list[int]:
        """Positions in ``prompted`` of the pairs that are edits: only there is the chosen side what a person ended up with."""
        return [at for at, index in enumerate(self.prompted) if self.pairs[index].kind is Kind.EDIT]

    @property
    def told_by_likelihood(self) -> list[int]:
        """Pairs that log-probabilities may say something about: not edits of a model's own drafts, unless there is nothing else.

        On those a mere change of temperature ranks every pair right (docs/gate.md).
        """
        others = [index for index, pair in enumerate(self.pairs) if pair.kind is not Kind.EDIT]
        return others or list(range(len(self.pairs)))
