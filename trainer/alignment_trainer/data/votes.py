"""Do people who judged the same text agree? Between actors, and between cohorts.

A vote says whether a model's response to a prompt was approved: accepted, liked or preferred counts for it;
edited, disliked or less preferred against it. The text that an editor wrote is no vote, so a later edit of an
edit is a revision and not a disagreement.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

from alignment_api.status import Share
from alignment_trainer.data.rows import Event, Kind, Pair, Signal, canonical
from alignment_trainer.data.shares import share
from alignment_trainer.data.spill import hash64

__all__ = ["Votes"]

_FOR: Final = {Signal.ACCEPT: True, Signal.THUMBS_UP: True, Signal.THUMBS_DOWN: False, Signal.EDIT: False}


class Votes:
    """Collects votes in 25 bytes each."""

    def __init__(self) -> None:
        self._texts, self._actors, self._cohorts = (array("Q") for _ in range(3))
        self._signs = array("b")

    def add_event(self, event: Event) -> None:
        """Votes of an event that counts."""
        if not event.actor and not event.cohort:
            return
        prompt = canonical(event.prompt)
        if event.signal is Signal.PREFER:
            self._add(prompt, event.response, event, approved=True)
            self._add(prompt, event.other or "", event, approved=False)
        else:
            self._add(prompt, event.response, event, approved=_FOR[event.signal])

    def add_pair(self, pair: Pair) -> None:
        """Votes of a pair that came as a pair."""
        if not pair.actor and not pair.cohort:
            return
        prompt, chosen, rejected = pair.content
        if pair.kind is Kind.PREFERENCE:
            self._add(prompt, chosen, pair, approved=True)
        self._add(prompt, rejected, pair, approved=False)

    def between_actors(self) -> Share | None:
        """Mean share of agreeing pairs of actors per text that several judged; None when no text was."""
        return _agreement(self._texts, self._actors, self._signs)

    def between_cohorts(self) -> Share | None:
        """The same between cohorts, each speaking with the majority of its votes."""
        return _agreement(self._texts, self._cohorts, self._signs)

    def _add(self, prompt: str, text: str, row: Event | Pair, *, approved: bool) -> None:
        self._texts.append(hash64(prompt, text))
        self._actors.append(hash64(row.actor) if row.actor else 0)
        self._cohorts.append(hash64(row.cohort) if row.cohort else 0)
        self._signs.append(1 if approved else -1)


def _agreement(texts: array[int], judges: array[int], signs: array[int]) -> Share | None:
    import numpy as np

    keys = np.stack([np.asarray(texts), np.asarray(judges)]) if len(texts) else np.zeros((2, 0), np.uint64)
    known = keys[1] != 0
    keys, sign = keys[:, known], np.asarray(signs, dtype=np.int64)[known]
    if not keys.shape[1]:
        return None
    order = np.lexsort((keys[1], keys[0]))
    keys, sign = keys[:, order], sign[order]
    starts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    verdicts = np.sign(np.add.reduceat(sign, starts))
    judged = keys[0, starts][verdicts != 0]
    verdicts = verdicts[verdicts != 0]
    return _over_texts(judged, verdicts) if len(judged) else None


def _over_texts(judged: Any, verdicts: Any) -> Share | None:
    """judged: text of each judge's verdict, sorted; verdicts: +1 or -1."""
    import numpy as np

    starts = np.flatnonzero(np.r_[True, judged[1:] != judged[:-1]])
    for_, against = (np.add.reduceat((verdicts == v).astype(np.float64), starts) for v in (1, -1))
    judges = for_ + against
    several = judges >= 2
    if not several.any():
        return None
    for_, against, judges = for_[several], against[several], judges[several]
    agreeing = for_ * (for_ - 1) + against * (against - 1)
    return share(float(np.mean(agreeing / (judges * (judges - 1)))), len(judges))
