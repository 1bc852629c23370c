"""From approval events to preference pairs.

The rules, which docs/data.md explains:

1. Of events with one id the latest counts; the others are ``superseded``.
2. An edit makes (chosen = edited, rejected = response), kind edit, when it is significant: not only white space,
   case or punctuation, and within the bounds of relative distance. Else it is ``insignificantEdit``, or
   ``punctuationEdit`` when only punctuation, case or markup differ.
3. A chain, where one event's edited text is the next one's response to the same prompt, becomes one pair from the
   first response to the last text (Collapse; the links between are ``collapsed``) or a pair a link (Separate).
4. ``prefer`` makes (chosen = response, rejected = other).
5. Responses to one prompt in one group with opposite signals (accept or thumbs_up against thumbs_down) make pairs,
   in order of time, each response used once.
6. Every other signal is ``unpaired``: a lone accept or thumbs_down is never invented into a pair.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from alignment_api.spec import Chains, EventsPolicy
from alignment_trainer.data.rows import Event, Kind, Pair, Signal, canonical

__all__ = ["Pairing", "pair_events"]

_UNIMPORTANT = re.compile(r"[\W_]+")
_POSITIVE = (Signal.ACCEPT, Signal.THUMBS_UP)


@dataclass
class Pairing:
    """Pairs, and how many further events there were, by what became of them. Events in = pairs + the counts."""

    pairs: list[Pair] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def pair_events(events: Iterable[Event], policy: EventsPolicy) -> Pairing:
    """Pairs from events; the order of ``events`` does not matter."""
    out = Pairing()
    latest: dict[str, Event] = {}
    for event in sorted(events, key=lambda e: (e.time, e.place)):
        if event.id in latest:
            out.counts["superseded"] += 1
        latest[event.id] = event
    by_context: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in latest.values():
        by_context[(event.group, canonical(event.prompt))].append(event)
    for _, context in sorted(by_context.items()):
        _pair_edits([e for e in context if e.signal is Signal.EDIT], policy, out)
        _pair_signals([e for e in context if e.signal is not Signal.EDIT], out)
    return out


def _pair_edits(edits: list[Event], policy: EventsPolicy, out: Pairing) -> None:
    for chain in _chains(edits) if policy.chains is Chains.COLLAPSE else [[edit] for edit in edits]:
        final = chain[-1].edited
        assert final is not None  # noqa: S101  the format saw to it
        reason = _insignificant(chain[0].response, final, policy)
        if reason is not None:
            out.counts[reason] += len(chain)
            continue
        out.counts["collapsed"] += len(chain) - 1
        out.pairs.append(_pair(chain[0], final, chain[0].response, Kind.EDIT, tuple(e.id for e in chain)))


def _chains(edits: list[Event]) -> list[list[Event]]:
    """Edits linked by text, each in exactly one chain; a text that was edited twice continues the earlier edit only."""
    followers: dict[str, list[Event]] = defaultdict(list)
    for event in edits:
        followers[event.response].append(event)
    taken: set[str] = set()
    targets = {event.edited for event in edits}
    starts = [e for e in edits if e.response not in targets]
    chains = []
    for start in [*starts, *edits]:
        if start.id in taken:
            continue
        chain = [start]
        taken.add(start.id)
        while follower := next((e for e in followers[chain[-1].edited or ""] if e.id not in taken), None):
            chain.append(follower)
            taken.add(follower.id)
        chains.append(chain)
    return chains


def _insignificant(response: str, edited: str, policy: EventsPolicy) -> str | None:
    if " ".join(response.split()).casefold() == " ".join(edited.split()).casefold():
        return "insignificantEdit"
    if _UNIMPORTANT.sub("", response).casefold() == _UNIMPORTANT.sub("", edited).casefold():
        return "punctuationEdit"
    distance = Levenshtein.normalized_distance(response, edited)
    bounds = policy.significant_edit
    return None if bounds.minimum_distance <= distance <= bounds.maximum_distance else "insignificantEdit"


def _pair_signals(events: list[Event], out: Pairing) -> None:
    liked, disliked = [], []
    for event in events:
        if event.signal is Signal.PREFER:
            assert event.other is not None  # noqa: S101  the format saw to it
            out.pairs.append(_pair(event, event.response, event.other, Kind.PREFERENCE, (event.id,)))
        elif event.signal in _POSITIVE:
            liked.append(event)
        else:
            disliked.append(event)
    couples = [
        (good, bad) for good, bad in zip(liked, disliked, strict=False) if good.response != bad.response
    ]
    for good, bad in couples:
        out.pairs.append(_pair(good, good.response, bad.response, Kind.PREFERENCE, (good.id, bad.id)))
    out.counts["joined"] += len(couples)
    out.counts["unpaired"] += len(liked) + len(disliked) - 2 * len(couples)


def _pair(event: Event, chosen: str, rejected: str, kind: Kind, ids: tuple[str, ...]) -> Pair:
    answers: list[str | list[dict[str, str]]] = [chosen, rejected]
    if not isinstance(event.prompt, str):
        answers = [[{"role": "assistant", "content": answer}] for answer in (chosen, rejected)]
    return Pair(
        id=event.id,
        place=event.place,
        prompt=event.prompt,
        chosen=answers[0],
        rejected=answers[1],
        kind=kind,
        group=event.group,
        actor=event.actor,
        cohort=event.cohort,
        time=event.time,
        origin=event.origin,
        event_ids=ids,
    )
