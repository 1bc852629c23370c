"""The pairs of each side as they are left after everything that drops some, in the snapshot's order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

from alignment_trainer.data.accounting import Account
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.spill import BUCKETS, Spill, hash64, unpack_pair
from alignment_trainer.data.split import Side

__all__ = ["Sides", "cap_synthetic"]


class Sides:
    """Both sides on disk. spills: what the split put there, before the train side lost pairs."""

    def __init__(self, folder: Path) -> None:
        self.spills = {side: Spill(folder, side) for side in Side}
        self._dropped: array[int] = array("Q")

    def drop(self, numbers: array[int]) -> None:
        """Leave these pairs (by ``pair_number``) out of the train side from now on."""
        self._dropped.extend(numbers)

    def pairs(self, side: Side) -> Iterator[Pair]:
        """Pairs of one side in the order of their ids, one bucket in memory at a time."""
        import numpy as np

        dropped = np.asarray(self._dropped if side is Side.TRAIN else array("Q"))
        for number in range(BUCKETS):
            pairs = [unpack_pair(row) for row in self.spills[side].bucket(number, keep=True)]
            if len(dropped) and pairs:
                gone = np.isin(np.array([pair.pair_number for pair in pairs], dtype=np.uint64), dropped)
                pairs = [pair for pair, out in zip(pairs, gone, strict=True) if not out]
            yield from sorted(pairs, key=lambda pair: (pair.pair_id, pair.place))


def cap_synthetic(
    sides: Sides, human: int, hashes: array[int], share: float, salt: str, account: Account
) -> None:
    """At most ``share`` of the train side synthetic: those with the smallest hashes under the split's salt stay.

    human: number of human pairs on the train side; hashes: of its synthetic pairs, ``hash64(salt, pair_id)``.
    """
    allowed = len(hashes) if share >= 1 else min(len(hashes), int(human * share / (1 - share)))
    if allowed == len(hashes):
        return
    kept = set(sorted(hashes)[:allowed])
    gone: array[int] = array("Q")
    for pair in sides.pairs(Side.TRAIN):
        if pair.synthetic and hash64(salt, pair.pair_id) not in kept:
            gone.append(pair.pair_number)
            account.drop(
                pair.place, "syntheticCap", "more synthetic pairs than maximumSyntheticFraction allows"
            )
    sides.drop(gone)
