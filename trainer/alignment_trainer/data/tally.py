"""What the pairs are like, counted in one pass over both sides: groups, cohorts, kinds, lengths."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from alignment_api.spec import HoldoutSpec
from alignment_api.status import Share
from alignment_trainer.data.rows import Kind, Pair, plain
from alignment_trainer.data.shares import share
from alignment_trainer.data.spill import hash64
from alignment_trainer.data.split import Side, group_key

__all__ = ["Tally"]

_COHORTS: Final = 1000
"""Cohorts listed by name; whoever has more names people where cohorts are meant."""


@dataclass
class Tally:
    """Counts by side. kinds, cohorts, models: pairs by name. longer, shorter: pairs by which side is longer."""

    holdout: HoldoutSpec
    pairs: Counter[Side] = field(default_factory=Counter)
    kinds: dict[Side, Counter[Kind]] = field(default_factory=lambda: {side: Counter() for side in Side})
    models: Counter[str] = field(default_factory=Counter)
    cohorts: dict[Side, Counter[str]] = field(default_factory=lambda: {side: Counter() for side in Side})
    synthetic: int = 0
    longer: int = 0
    shorter: int = 0
    _groups: dict[Side, array[int]] = field(default_factory=lambda: {side: array("Q") for side in Side})

    def add(self, side: Side, pairs: Iterable[Pair]) -> None:
        """Count the pairs of a side."""
        groups, cohorts, kinds = self._groups[side], self.cohorts[side], self.kinds[side]
        for pair in pairs:
            self.pairs[side] += 1
            kinds[pair.kind] += 1
            groups.append(hash64(group_key(pair, self.holdout)))
            if pair.cohort and (pair.cohort in cohorts or len(cohorts) < _COHORTS):
                cohorts[pair.cohort] += 1
            if pair.model and (pair.model in self.models or len(self.models) < _COHORTS):
                self.models[pair.model] += 1
            self.synthetic += pair.synthetic
            difference = len(plain(pair.chosen)) - len(plain(pair.rejected))
            self.longer += difference > 0
            self.shorter += difference < 0

    def groups(self, *sides: Side) -> int:
        """Number of different groups on these sides."""
        import numpy as np

        return len(np.unique(np.concatenate([np.asarray(self._groups[side]) for side in sides])))

    def group_sizes(self, side: Side) -> list[int]:
        """Pairs in each group of a side."""
        import numpy as np

        sizes: list[int] = np.unique(np.asarray(self._groups[side]), return_counts=True)[1].tolist()
        return sizes

    @property
    def held_out_edits(self) -> int:
        """Held-out pairs that are edits."""
        return self.kinds[Side.HOLDOUT][Kind.EDIT]

    @property
    def chosen_longer(self) -> Share | None:
        """Of pairs whose sides differ in length (characters): how often the chosen side is the longer one."""
        n = self.longer + self.shorter
        return share(self.longer / n, n) if n else None

    def to_wire(self) -> dict[str, Any]:
        """For the manifest."""
        names = sorted({name for counts in self.cohorts.values() for name in counts})
        return {
            "kinds": {str(kind): {str(side): self.kinds[side][kind] for side in Side} for kind in Kind},
            "models": dict(sorted(self.models.items())),
            "cohorts": {name: {str(side): self.cohorts[side][name] for side in Side} for name in names},
        }
