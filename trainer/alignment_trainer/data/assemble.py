"""From sources to two sides of pairs: everything about the data that prepare decides, and nothing it writes.

Called by the prepare stage and by ``align data check`` and ``align run --plan``, so that a check says what a run
would do. The only file it writes is the quarantine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from alignment_api.spec import DataSpec, Origin
from alignment_api.status import Funnel
from alignment_trainer.data import rows as model
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.clean import deduplicated, normalised, usable, without_contradictions
from alignment_trainer.data.exclusions import Exclusions, read_exclusions
from alignment_trainer.data.files import read_rows
from alignment_trainer.data.formats import read_row
from alignment_trainer.data.pairing import pair_events
from alignment_trainer.data.rows import Event, Pair, RowError
from alignment_trainer.data.split import Side, group_key, shared_conversations, side_of
from alignment_trainer.data.warnings import data_warnings
from alignment_trainer.errors import DataError
from alignment_trainer.storage.store import ObjectInfo, ObjectStore

__all__ = ["Assembled", "Assembly", "assemble", "refuse_too_few", "refuse_too_many_invalid"]

_POLL_ROWS = 4096


@dataclass(frozen=True)
class Assembled:
    """What became of the sources."""

    sides: dict[Side, list[Pair]]
    funnel: Funnel
    account: Account
    sources: list[ObjectInfo]
    exclusions: Exclusions


@dataclass(frozen=True)
class Assembly:
    """What assembling needs besides the spec.

    store: gives the store for a URI. fits: whether a pair fits the model's maxLength. special: the tokenizer's
    special tokens. tick: called with (files done, files) and between rows; may raise to stop.
    """

    store: Callable[[str], ObjectStore]
    fits: Callable[[Pair], bool] = lambda _pair: True
    special: frozenset[str] = frozenset()
    tick: Callable[[int, int], None] = lambda _done, _total: None


def assemble(spec: DataSpec, work: Assembly, quarantine: Path) -> Assembled:
    """Read, check, clean and split. Raises DataError for damaged files, bad exclusions, and too many invalid rows."""
    sources = _list_sources(work, spec)
    exclusions = read_exclusions([e.uri for e in spec.exclusions], work.store)
    account = Account(quarantine)
    pairs = _read_pairs(spec, work, sources, exclusions, account)
    clean = (normalised(pair, work.special, account) for pair in pairs)
    kept = deduplicated(usable(clean, work.fits, account.drop), account.drop)
    kept = without_contradictions(kept, spec.contradictions, account.drop)
    sides = _split(kept, spec, account)
    account.close()
    return Assembled(sides, _funnel(account, sides, spec), account, [info for info, _ in sources], exclusions)


def _list_sources(work: Assembly, spec: DataSpec) -> list[tuple[ObjectInfo, int]]:
    """Every file once, with the index of the first source that names it, in the order of their URIs."""
    found: dict[str, tuple[ObjectInfo, int]] = {}
    for index, source in enumerate(spec.sources):
        files = list(work.store(source.uri).list(source.uri))
        if not files:
            raise DataError(
                f"spec.data.sources[{index}] ({source.uri}) matches no object; check the URI.",
                reason="SourceEmpty",
            )
        for info in files:
            found.setdefault(info.uri, (info, index))
    return [found[uri] for uri in sorted(found)]


def _read_pairs(
    spec: DataSpec,
    work: Assembly,
    sources: list[tuple[ObjectInfo, int]],
    exclusions: Exclusions,
    account: Account,
) -> list[Pair]:
    pairs: list[Pair] = []
    events: list[Event] = []
    for number, (info, index) in enumerate(sources):
        work.tick(number, len(sources))
        for row in _rows_of(spec, work, info, index, account):
            if exclusions.covers(row):
                account.count("excluded", 1)
            elif isinstance(row, Event):
                events.append(row)
            else:
                pairs.append(row)
    account.events = len(events)
    paired = pair_events(events, spec.events)
    for reason, count in paired.counts.items():
        account.count(reason, count)
    return pairs + paired.pairs


def _rows_of(
    spec: DataSpec, work: Assembly, info: ObjectInfo, index: int, account: Account
) -> Iterator[Pair | Event]:
    source = spec.sources[index]
    for place, row in read_rows(info.uri, work.store(info.uri)):
        account.rows += 1
        if account.rows % _POLL_ROWS == 0:
            work.tick(0, 1)
        try:
            if isinstance(row, RowError):
                raise row
            parsed = read_row(row, place, source.format)
        except RowError as error:
            account.refuse(place, error)
            continue
        # A source that is declared synthetic stays so, whatever its rows say of themselves.
        yield replace(parsed, origin=model.Origin.SYNTHETIC) if source.origin is Origin.SYNTHETIC else parsed


def _split(pairs: list[Pair], spec: DataSpec, account: Account) -> dict[Side, list[Pair]]:
    """Assign sides; then enforce what the holdout must be: human, and without a prompt that is trained on."""
    sides: dict[Side, list[Pair]] = {Side.TRAIN: [], Side.HOLDOUT: []}
    for pair in pairs:
        side = side_of(group_key(pair, spec.holdout), spec.holdout)
        if side is Side.HOLDOUT and pair.origin is model.Origin.SYNTHETIC:
            account.drop(
                pair,
                "syntheticHoldout",
                "synthetic pairs never enter the holdout, and its groups are not trained on",
            )
        else:
            sides[side].append(pair)
    shared = shared_conversations(sides[Side.TRAIN], sides[Side.HOLDOUT])
    train = []
    for pair in sides[Side.TRAIN]:
        if pair.conversation in shared:
            account.drop(pair, "leak", "its prompt is also in a group that is held out")
        else:
            train.append(pair)
    sides[Side.TRAIN] = _capped(train, spec, account)
    if shared_conversations(sides[Side.TRAIN], sides[Side.HOLDOUT]):
        raise DataError(
            "The split leaks: a prompt is on both sides after the leak was removed. This is a defect.",
            reason="SplitLeaks",
        )
    return sides


def _capped(train: list[Pair], spec: DataSpec, account: Account) -> list[Pair]:
    """At most ``maximumSyntheticFraction`` of the train side synthetic, by a sample seeded with the split's salt."""
    human = [pair for pair in train if pair.origin is model.Origin.HUMAN]
    synthetic = [pair for pair in train if pair.origin is model.Origin.SYNTHETIC]
    share = spec.maximum_synthetic_fraction
    allowed = len(synthetic) if share >= 1 else min(len(synthetic), int(len(human) * share / (1 - share)))
    chosen = set(random.Random(spec.holdout.salt).sample(range(len(synthetic)), allowed))
    for index, pair in enumerate(synthetic):
        if index not in chosen:
            account.drop(pair, "syntheticCap", "more synthetic pairs than maximumSyntheticFraction allows")
    return human + [pair for index, pair in enumerate(synthetic) if index in chosen]


def _funnel(account: Account, sides: dict[Side, list[Pair]], spec: DataSpec) -> Funnel:
    dropped = dict(account.dropped)
    train, holdout = sides[Side.TRAIN], sides[Side.HOLDOUT]
    held_groups = {group_key(pair, spec.holdout) for pair in holdout}
    return Funnel(
        rows=account.rows,
        events=account.events,
        pairs=len(train) + len(holdout),
        train=len(train),
        holdout=len(holdout),
        groups=len({group_key(pair, spec.holdout) for pair in train} | held_groups),
        holdout_groups=len(held_groups),
        invalid=account.invalid.total(),
        excluded=dropped.pop("excluded", 0),
        duplicates=dropped.pop("duplicate", 0),
        contradictions=dropped.pop("contradiction", 0),
        unpaired=dropped.pop("unpaired", 0),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        synthetic=sum(pair.origin is model.Origin.SYNTHETIC for pair in train),
        warnings=data_warnings(train, holdout, account.neutralised),
    )


def refuse_too_many_invalid(account: Account, spec: DataSpec) -> None:
    """End the run when too many rows cannot be read. Raises DataError with the most frequent faults and places."""
    invalid, limit = account.invalid.total(), spec.maximum_invalid_fraction
    if account.rows == 0:
        raise DataError("The sources hold no rows at all; check spec.data.sources.", reason="SourceEmpty")
    if invalid > limit * account.rows:
        raise DataError(
            f"{invalid} of {account.rows} rows are invalid, more than maximumInvalidFraction {limit:g} allows: "
            f"{account.worst()}. Mend them (align data check lists all), or raise the limit in a new run.",
            reason="TooManyInvalid",
        )


def refuse_too_few(funnel: Funnel, spec: DataSpec) -> None:
    """End the run when there is too little to train on, or nothing to decide on. Raises DataError."""
    if funnel.pairs < spec.minimum_pairs:
        lost = funnel.rows - funnel.pairs
        raise DataError(
            f"{funnel.pairs} usable pairs from {funnel.rows} rows ({lost} rows made none), data.minimumPairs is "
            f"{spec.minimum_pairs}; collect more, or lower it in a new run.",
            reason="TooFewPairs",
        )
    if not funnel.train or not funnel.holdout:
        empty = "train side" if not funnel.train else "holdout"
        raise DataError(
            f"The {empty} is empty: {funnel.groups} groups at holdout.fraction {spec.holdout.fraction:g}. Give rows a group "
            "that varies, or another fraction.",
            reason="TooFewPairs",
        )
