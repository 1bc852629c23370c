"""From sources to two sides of pairs: everything about the data that prepare decides, and nothing it publishes.

Called by the prepare stage and by ``align data check`` and ``align run --plan``, so that a check says what a run
would do. Rows wait on disk between its passes, so memory does not grow with their number:

1. read: every row once; excluded, normalised and redacted before it is written anywhere (``reading``)
2. pair: events that belong together meet and become pairs (``settling.pair_events``)
3. settle: equal contents meet; duplicates and contradictions go, each pair gets its side (``settling.settle``)
4. leaks: what tells about the holdout leaves the train side (``leaks``), then what is synthetic beyond the share
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api.spec import DataSpec
from alignment_api.status import Funnel
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.exclusions import Exclusions, read_exclusions
from alignment_trainer.data.leaks import drop_leaks
from alignment_trainer.data.normalise import Normaliser
from alignment_trainer.data.reading import Intake, SourceRead, read_sources
from alignment_trainer.data.redaction import Redactor
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.settling import Usable, pair_events, settle
from alignment_trainer.data.sides import Sides, cap_synthetic
from alignment_trainer.data.spill import Spill
from alignment_trainer.data.split import Side
from alignment_trainer.data.tally import Tally
from alignment_trainer.data.votes import Votes
from alignment_trainer.data.warnings import data_warnings
from alignment_trainer.storage.store import ObjectStore

__all__ = ["Assembled", "Assembly", "assemble"]


@dataclass(frozen=True)
class Assembled:
    """What became of the sources. template: what the prompts have in common, for the proof that nothing leaks."""

    sides: Sides
    funnel: Funnel
    account: Account
    sources: list[SourceRead]
    exclusions: Exclusions
    tally: Tally
    template: Any


@dataclass(frozen=True)
class Assembly:
    """What assembling needs besides the spec.

    store: gives the store for a URI. scratch: folder for rows that wait; what is in it afterwards may go.
    exclusions: files of exclusions besides the spec's own: what was erased below these artifacts.
    fits: None when a pair fits the model, else the reason and a sentence. special: the tokenizer's special tokens.
    tick: called now and then with (activity, done, total); may raise to stop.
    """

    store: Callable[[str], ObjectStore]
    scratch: Path
    exclusions: tuple[str, ...] = ()
    fits: Callable[[Pair], tuple[str, str] | None] = lambda _pair: None
    special: frozenset[str] = frozenset()
    tick: Callable[[str, int, int], None] = lambda _activity, _done, _total: None


def assemble(spec: DataSpec, work: Assembly) -> Assembled:
    """Read, check, clean and split. Raises DataError for damaged files and bad exclusions, RequestError."""
    exclusions = read_exclusions([*(e.uri for e in spec.exclusions), *work.exclusions], work.store)
    account, redactor, normaliser = Account(), Redactor(spec.redaction), Normaliser(work.special)
    events, contents = (Spill(work.scratch / "rows", name) for name in ("events", "contents"))
    emit = Usable(contents, account, work.fits, exclusions.ids)
    intake = Intake(account, exclusions, normaliser, redactor, events, emit)
    sources = read_sources(spec, work.store, work.scratch, intake, work.tick)
    intake.index.finish()
    skewed = pair_events(events, intake.index, spec.events, account, intake.votes, emit, work.tick)
    sides = Sides(work.scratch / "rows")
    template = settle(contents, sides.spills, spec, account, work.tick).template()
    left = drop_leaks(sides.spills, template, spec.holdout, account, work.tick)
    sides.drop(left.dropped)
    cap_synthetic(
        sides, left.human, left.synthetic, spec.maximum_synthetic_fraction, spec.holdout.salt, account
    )
    tally = Tally(spec.holdout)
    for side in Side:
        work.tick("counting pairs", 0, 0)
        tally.add(side, sides.pairs(side))
    funnel = _funnel(account, tally, normaliser, redactor, intake.votes)
    funnel = funnel.model_copy(update={"warnings": data_warnings(funnel, skewed)})
    return Assembled(sides, funnel, account, sources, exclusions, tally, template)


def _funnel(
    account: Account, tally: Tally, normaliser: Normaliser, redactor: Redactor, votes: Votes
) -> Funnel:
    dropped = dict(account.dropped)
    funnel = Funnel(
        rows=account.rows,
        events=account.events,
        pairs=tally.pairs.total(),
        train=tally.pairs[Side.TRAIN],
        holdout=tally.pairs[Side.HOLDOUT],
        groups=tally.groups(*Side),
        holdout_groups=tally.groups(Side.HOLDOUT),
        invalid=account.invalid.total(),
        excluded=dropped.pop("excluded", 0),
        duplicates=dropped.pop("duplicate", 0),
        contradictions=dropped.pop("contradiction", 0),
        unpaired=dropped.pop("unpaired", 0),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        synthetic=tally.synthetic,
        cohorts=len({name for counts in tally.cohorts.values() for name in counts}),
        neutralised=normaliser.neutralised,
        redacted={name: count for name, count in sorted(redactor.found.items()) if count},
        chosen_longer=tally.chosen_longer,
        actor_agreement=votes.between_actors(),
        cohort_agreement=votes.between_cohorts(),
    )
    left = funnel.invalid + funnel.excluded + funnel.duplicates + funnel.contradictions + funnel.unpaired
    assert funnel.rows == funnel.pairs + left + sum(funnel.dropped.values()), "the funnel does not add up"  # noqa: S101
    return funnel
