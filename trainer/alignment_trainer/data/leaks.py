"""Nothing that is trained on may tell about the holdout: found before the snapshot is written, proved on it after.

A group never moves, so what sits in groups on both sides is left out of the train side: the same prompt, a
near-identical prompt, and edits that go on from a held-out edit's text (or the other way round).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from alignment_api.spec import HoldoutSpec
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.near import NearIndex
from alignment_trainer.data.rows import Kind, Pair, Text, plain
from alignment_trainer.data.spill import Spill, hash64, unpack_pair
from alignment_trainer.data.split import Side, group_key
from alignment_trainer.errors import DataError

__all__ = ["HeldOut", "LeftOnTrain", "drop_leaks", "prove_no_leak"]

_BATCH: Final = 1024
_CHAIN_CHARACTERS: Final = 32
"""Shorter texts meet by chance, not because one edit goes on from another."""
_SENTENCES: Final = {
    "leakPrompt": "its prompt is also in a group that is held out",
    "leakNearPrompt": "its prompt is nearly the same as one in a group that is held out",
    "leakChain": "its edit goes on from a held-out edit's text, or the other way round",
}


class HeldOut:
    """What the holdout holds, as hashes: to ask whether a pair of the train side tells about it."""

    def __init__(self, pairs: Iterable[Pair], template: Any, holdout: HoldoutSpec) -> None:
        import numpy as np

        self._holdout = holdout
        groups, prompts, befores, afters = (array("Q") for _ in range(4))
        self._near = NearIndex(template)
        for batch in _batches(pairs):
            questions = [pair.question for pair in batch]
            self._near.add(questions)
            prompts.extend(hash64(question) for question in questions)
            for pair in batch:
                groups.append(hash64(group_key(pair, holdout)))
                befores.append(_chained(pair, pair.rejected))
                afters.append(_chained(pair, pair.chosen))
        self._near.finish()
        self._groups, self._prompts, self._befores, self._afters = (
            np.unique(np.asarray(column)) for column in (groups, prompts, befores, afters)
        )

    @property
    def groups(self) -> int:
        """Number of groups held out."""
        return len(self._groups)

    def leaks(self, batch: list[Pair]) -> list[str]:
        """Why each pair must not be trained on; an empty string where it may."""
        import numpy as np

        questions = [pair.question for pair in batch]
        prompts = np.array([hash64(question) for question in questions], dtype=np.uint64)
        # A chain across groups: one side's text after the edit is the other side's text before it.
        goes_on = np.array([_chained(p, p.rejected) for p in batch], dtype=np.uint64)
        leads_to = np.array([_chained(p, p.chosen) for p in batch], dtype=np.uint64)
        chained = _within(goes_on, self._afters) | _within(leads_to, self._befores)
        exact = _within(prompts, self._prompts)
        return [
            "leakPrompt" if same else "leakNearPrompt" if near else "leakChain" if chain else ""
            for same, near, chain in zip(exact, self._near.near(questions), chained, strict=True)
        ]

    def shares_group(self, batch: list[Pair]) -> bool:
        """Whether a pair is of a group that is held out: never true of the train side, as long as the split works."""
        import numpy as np

        groups = np.array([hash64(group_key(p, self._holdout)) for p in batch], dtype=np.uint64)
        return bool(_within(groups, self._groups).any())


@dataclass(frozen=True)
class LeftOnTrain:
    """dropped: numbers of pairs that leak; of the others the human ones counted, the synthetic ones hashed with the salt."""

    dropped: array[int]
    synthetic: array[int]
    human: int


def drop_leaks(
    sides: dict[Side, Spill],
    template: Any,
    holdout: HoldoutSpec,
    account: Account,
    tick: Callable[[str, int, int], None],
) -> LeftOnTrain:
    """Find what leaks from the train side, and count and quarantine it."""
    held_out = HeldOut(_pairs(sides[Side.HOLDOUT]), template, holdout)
    dropped: array[int] = array("Q")
    synthetic: array[int] = array("Q")
    human = 0
    for batch in _batches(_pairs(sides[Side.TRAIN])):
        tick("looking for leaks", 0, 0)
        for pair, leak in zip(batch, held_out.leaks(batch), strict=True):
            if leak:
                dropped.append(pair.pair_number)
                account.drop(pair.place, leak, _SENTENCES[leak])
            elif pair.synthetic:
                synthetic.append(hash64(holdout.salt, pair.pair_id))
            else:
                human += 1
    return LeftOnTrain(dropped, synthetic, human)


def prove_no_leak(
    train: Iterable[Pair],
    holdout: Iterable[Pair],
    template: Any,
    spec: HoldoutSpec,
    tick: Callable[[str, int, int], None],
) -> None:
    """Look at what was written, from the beginning. Raises DataError SplitLeaks when anything is on both sides."""
    held_out = HeldOut(holdout, template, spec)
    for batch in _batches(train):
        tick("proving that nothing leaks", 0, 0)
        leaks = {leak for leak in held_out.leaks(batch) if leak}
        if held_out.shares_group(batch):
            leaks.add("leakGroup")
        if leaks:
            raise DataError(
                f"The snapshot leaks ({', '.join(sorted(leaks))}): the train side tells about the holdout. "
                "This is a defect; nothing was stored. Please report it with the run's log.",
                reason="SplitLeaks",
            )


def _chained(pair: Pair, text: Text) -> int:
    """Hash of a text by which a chain goes on; 0 where there can be none."""
    words = plain(text)
    return hash64(words) if pair.kind is Kind.EDIT and len(words) >= _CHAIN_CHARACTERS else 0


def _pairs(spill: Spill) -> Iterator[Pair]:
    return (unpack_pair(row) for row in spill.rows())


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    source = iter(pairs)
    while batch := list(islice(source, _BATCH)):
        yield batch


def _within(values: Any, known: Any) -> Any:
    """Which values are in the sorted array; 0 stands for none and never is."""
    import numpy as np

    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return (known[np.searchsorted(known[:-1], values)] == values) & (values != 0)
