"""What metrics are computed from: holdout pairs, their log-probabilities, generations. Gathered once.

Plain arrays and strings; a metric needs no model. Order of all lists: the holdout's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alignment_trainer.data.rows import Pair

__all__ = ["AnchorLosses", "Generation", "Logps", "Material"]


@dataclass(frozen=True)
class Logps:
    """Log-probabilities of the answers under one model: nats, summed over answer tokens, prompt excluded."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]


@dataclass(frozen=True)
class Generation:
    """One generated answer. tokens: answer tokens; finished: it ended by itself; logp_*: nats under each model."""

    text: str
    tokens: int
    finished: bool
    logp_own: float
    logp_champion: float


@dataclass(frozen=True)
class AnchorLosses:
    """Losses on an anchor set, nats per token, one number per text."""

    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """Everything the metrics see.

    prompted: indices into ``pairs`` of the pairs whose prompts were answered; candidate and champion: their
    generations, champion at the temperature that served it best. chosen_tokens: answer tokens of the chosen
    side, one per pair.
    """

    pairs: list[Pair]
    candidate_logps: Logps
    champion_logps: Logps
    chosen_tokens: NDArray[np.int64]
    prompted: list[int]
    candidate: list[Generation]
    champion: list[Generation]
    champion_temperature: float
    anchors: dict[str, AnchorLosses] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        """Group of each pair; where a pair has none, its conversation."""
        return [pair.group or pair.conversation for pair in self.pairs]

    @property
    def prompted_groups(self) -> list[str]:
        """Group of each answered pair."""
        groups = self.groups
        return [groups[index] for index in self.prompted]
