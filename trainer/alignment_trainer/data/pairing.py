"""From approval events to preference pairs.

The rules, which docs/data.md explains:

1. Of events with one id the latest counts; the others are ``superseded``, or duplicates when nothing differs.
2. An edit makes (chosen = edited, rejected = response), kind edit, when it is significant: not only white space or
   case, and within the bounds of relative distance. Else it is ``insignificantEdit``, or ``punctuationEdit`` when
   only punctuation or markup differ.
3. A chain, where one event's edited text is the response of another of the same group (without groups: the same
   prompt), becomes one pair from the first response to the last text (Collapse; the links between are
   ``collapsed``) or a pair a link (Separate).
4. ``prefer`` makes (chosen = response, rejected = other).
5. Responses to one prompt in one group with opposite signals (accept or thumbs_up against thumbs_down) make pairs,
   in order of time, each response used once.
6. Every other signal is ``unpaired``: a lone accept or thumbs_down is never invented into a pair.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final

from rapidfuzz.distance import Levenshtein

from alignment_api.spec import Chains, EventsPolicy, SignificantEdit
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.events_index import context_of
from alignment_trainer.data.rows import Event, Kind, Pair, Signal, canonical, folded

__all__ = ["Pairing", "insignificance"]

_UNIMPORTANT: Final = re.compile(r"[\W_]+")
_POSITIVE: Final = (Signal.ACCEPT, Signal.THUMBS_UP)
_SENTENCES: Final = {
    "insignificantEdit": "the edit is outside the bounds of events.significantEdit, or only white space or case",
    "punctuationEdit": "the edit changes only punctuation, case or markup",
    "unpaired": "a signal without an opposite one on the same prompt is not a preference",
}


class Pairing:
    """Makes pairs of events that count, told one after the other; edits that stand alone come out at once.

    clock_skew: links of chains that are dated before the edit they go on from.
    """

    def __init__(self, policy: EventsPolicy, account: Account, emit: Callable[[Pair], None]) -> None:
        self._policy = policy
        self._account = account
        self._emit = emit
        self._edits: dict[str, list[Event]] = defaultdict(list)
        self._signals: dict[tuple[str, str], list[Event]] = defaultdict(list)
        self.clock_skew = 0

    def add(self, event: Event, *, linked: bool) -> None:
        """Take an event. linked: it may be part of a chain, so it has to wait for the others."""
        if event.signal is Signal.PREFER:
            assert event.other is not None  # noqa: S101  the format saw to it
            self._emit(_pair([event], event.response, event.other, Kind.PREFERENCE))
        elif event.signal is not Signal.EDIT:
            self._signals[event.group, canonical(event.prompt)].append(event)
        elif linked:
            self._edits[context_of(event)].append(event)
        else:
            self._settle([event])

    def finish(self) -> None:
        """No more events of these contexts will come: settle what waited."""
        for _, edits in sorted(self._edits.items()):
            chains = list(_chains(sorted(edits, key=_age)))
            for chain in chains:
                self.clock_skew += sum(b.time < a.time for a, b in pairwise(chain) if b.time)
                for part in [chain] if self._policy.chains is Chains.COLLAPSE else [[link] for link in chain]:
                    self._settle(part)
        for _, signals in sorted(self._signals.items()):
            self._join(sorted(signals, key=_age))
        self._edits.clear()
        self._signals.clear()

    def _settle(self, chain: list[Event]) -> None:
        final = chain[-1].edited
        assert final is not None  # noqa: S101  the format saw to it
        reason = insignificance(chain[0].response, final, self._policy.significant_edit)
        if reason is None:
            self._account.merge("collapsed", len(chain) - 1)
            self._emit(_pair(chain, final, chain[0].response, Kind.EDIT))
            return
        for event in chain:
            self._account.drop(event.place, reason, _SENTENCES[reason])

    def _join(self, signals: list[Event]) -> None:
        liked = [event for event in signals if event.signal in _POSITIVE]
        disliked = [event for event in signals if event.signal not in _POSITIVE]
        while liked and disliked:
            partner = next((bad for bad in disliked if bad.response != liked[0].response), None)
            if partner is None:
                self._unpaired(liked.pop(0))
                continue
            disliked.remove(partner)
            good = liked.pop(0)
            self._account.merge("joined")
            self._emit(_pair([good, partner], good.response, partner.response, Kind.PREFERENCE))
        for event in [*liked, *disliked]:
            self._unpaired(event)

    def _unpaired(self, event: Event) -> None:
        self._account.drop(event.place, "unpaired", _SENTENCES["unpaired"])


def _age(event: Event) -> tuple[str, str, int]:
    return event.time, event.place.uri, event.place.line


def _chains(edits: list[Event]) -> Iterator[list[Event]]:
    """Edits linked by text, each in exactly one chain; a text that was edited twice continues the earlier edit only."""
    followers: dict[str, list[Event]] = defaultdict(list)
    for event in reversed(edits):
        followers[event.response].append(event)
    targets = {event.edited for event in edits}
    taken: set[tuple[str, int]] = set()
    for start in [*(e for e in edits if e.response not in targets), *edits]:
        if (start.place.uri, start.place.line) in taken:
            continue
        chain, link = [], start
        while True:
            chain.append(link)
            taken.add((link.place.uri, link.place.line))
            waiting = followers[link.edited or ""]
            while waiting and (waiting[-1].place.uri, waiting[-1].place.line) in taken:
                waiting.pop()
            if not waiting:
                break
            link = waiting.pop()
        yield chain


def insignificance(response: str, edited: str, bounds: SignificantEdit) -> str | None:
    """Why an edit is no preference, or None when it is one."""
    if folded(response) == folded(edited):
        return "insignificantEdit"
    if _UNIMPORTANT.sub("", response).casefold() == _UNIMPORTANT.sub("", edited).casefold():
        return "punctuationEdit"
    # Beyond the cut-off the library stops and says 1, so long texts that share nothing cost little.
    distance = Levenshtein.normalized_distance(response, edited, score_cutoff=bounds.maximum_distance)
    return None if bounds.minimum_distance <= distance <= bounds.maximum_distance else "insignificantEdit"


def _pair(events: Iterable[Event], chosen: str, rejected: str, kind: Kind) -> Pair:
    first, *others = events
    answers: list[str | list[dict[str, str]]] = [chosen, rejected]
    if not isinstance(first.prompt, str):
        answers = [[{"role": "assistant", "content": answer}] for answer in (chosen, rejected)]
    return Pair(
        id=first.id,
        place=first.place,
        prompt=first.prompt,
        chosen=answers[0],
        rejected=answers[1],
        kind=kind,
        group=first.group,
        actor=first.actor,
        cohort=first.cohort,
        time=first.time,
        origin=first.origin,
        event_ids=tuple(event.id for event in (first, *others) if event.id),
        model=first.model,
        other_actors=tuple(sorted({e.actor for e in others if e.actor} - {first.actor})),
    )
