"""The second pass: pairs that can be used, each content once, no contradictions, on their side of the split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from alignment_api.spec import Contradictions, DataSpec, EventsPolicy, HoldoutSpec
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.events_index import EventIndex, Standing
from alignment_trainer.data.near import TemplateSample
from alignment_trainer.data.pairing import Pairing
from alignment_trainer.data.rows import Origin, Pair, folded, plain
from alignment_trainer.data.spill import BUCKETS, Spill, hash64, pack_pair, unpack_event, unpack_pair
from alignment_trainer.data.split import Side, group_key, side_of
from alignment_trainer.data.votes import Votes

__all__ = ["Usable", "pair_events", "settle"]

_REPEATED: Final = "the same event again, delivered twice"
_SUPERSEDED: Final = "a later event has the same id"


class Usable:
    """Takes pairs as they are made, drops what cannot be used, and puts the rest where equal contents meet.

    fits: None when a pair fits the model, else the reason and a sentence. excluded: ids of pairs that must not be used.
    """

    def __init__(
        self,
        spill: Spill,
        account: Account,
        fits: Callable[[Pair], tuple[str, str] | None],
        excluded: frozenset[str] = frozenset(),
    ) -> None:
        self._spill = spill
        self._account = account
        self._fits = fits
        self._excluded = excluded

    def __call__(self, pair: Pair) -> None:
        """Take a pair."""
        prompt, chosen, rejected = pair.content
        if folded(chosen) == folded(rejected):
            self._account.drop(
                pair.place, "identicalSides", "chosen and rejected are the same but for case and space"
            )
            return
        if self._excluded and pair.pair_id in self._excluded:
            self._account.drop(pair.place, "excluded", "an exclusion names the pair itself")
            return
        refusal = self._fits(pair)
        if refusal is not None:
            self._account.drop(pair.place, *refusal)
            return
        key = hash64(prompt, *sorted((chosen, rejected)))
        self._spill.add(key, pack_pair(pair), len(prompt) + len(chosen) + len(rejected))


def pair_events(
    events: Spill,
    index: EventIndex,
    policy: EventsPolicy,
    account: Account,
    votes: Votes,
    emit: Callable[[Pair], None],
    tick: Callable[[str, int, int], None],
) -> int:
    """Make pairs of all events; returns how many links of chains are dated backwards."""
    skew = 0
    for number in range(BUCKETS):
        tick("pairing events", number, BUCKETS)
        pairing = Pairing(policy, account, emit)
        for seq, *row in events.bucket(number):
            event = unpack_event(tuple(row))
            standing = index.standing(seq)
            if standing is Standing.REPEATED:
                account.drop(event.place, "duplicate", _REPEATED)
            elif standing is Standing.SUPERSEDED:
                account.drop(event.place, "superseded", _SUPERSEDED)
            else:
                votes.add_event(event)
                pairing.add(event, linked=index.linked(seq))
        pairing.finish()
        skew += pairing.clock_skew
    return skew


def settle(
    contents: Spill,
    sides: dict[Side, Spill],
    spec: DataSpec,
    account: Account,
    tick: Callable[[str, int, int], None],
) -> TemplateSample:
    """Deduplicate, judge contradictions and assign sides; returns what the prompts have in common."""
    sample = TemplateSample()
    for number in range(BUCKETS):
        tick("removing duplicates", number, BUCKETS)
        for pair in _distinct((unpack_pair(row) for row in contents.bucket(number)), spec, account):
            side = side_of(group_key(pair, spec.holdout), spec.holdout)
            if side is Side.HOLDOUT and pair.origin is Origin.SYNTHETIC:
                account.drop(
                    pair.place,
                    "syntheticHoldout",
                    "synthetic pairs never enter the holdout, and its groups are not trained on",
                )
                continue
            sample.add(pair.question)
            size = len(plain(pair.prompt)) + len(plain(pair.chosen)) + len(plain(pair.rejected))
            sides[side].add(pair.pair_number, pack_pair(pair), size)
    return sample


def _distinct(pairs: Iterable[Pair], spec: DataSpec, account: Account) -> Iterable[Pair]:
    """Each content once, the one that stands first, whatever the order of reading."""
    known: dict[tuple[str, ...], dict[str, Pair]] = defaultdict(dict)
    for pair in pairs:
        prompt, chosen, rejected = pair.content
        same = known[prompt, *sorted((chosen, rejected))]
        other = same.get(chosen)
        if other is None:
            same[chosen] = pair
            continue
        kept, left = sorted((pair, other), key=lambda one: _standing(one, spec.holdout))
        same[chosen] = kept
        account.drop(left.place, "duplicate", "the same prompt, chosen and rejected as another row")
    for same in known.values():
        if len(same) > 1 and spec.contradictions is Contradictions.DROP:
            for pair in same.values():
                account.drop(pair.place, "contradiction", "the same two answers are preferred both ways")
        else:
            yield from same.values()


def _standing(pair: Pair, holdout: HoldoutSpec) -> tuple[bool, bool, str, str, int]:
    """The human one first, then what is held out: no new row of another group moves it to the train side."""
    trained_on = not pair.synthetic and side_of(group_key(pair, holdout), holdout) is Side.TRAIN
    return pair.synthetic, trained_on, pair.group, pair.place.uri, pair.place.line
