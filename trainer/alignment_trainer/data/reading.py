"""The first pass: every row of every source, once, from its file to disk; excluded, normalised and redacted on the way.

Nothing that an exclusion names and nothing that a detector finds is ever written, not even to the scratch folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from alignment_api.spec import DataSpec, Origin
from alignment_trainer.data import rows as model
from alignment_trainer.data.accounting import Account
from alignment_trainer.data.events_index import EventIndex, context_of
from alignment_trainer.data.exclusions import Exclusions
from alignment_trainer.data.files import SourceFile
from alignment_trainer.data.formats import read_row
from alignment_trainer.data.normalise import Normaliser
from alignment_trainer.data.redaction import Redactor
from alignment_trainer.data.rows import Event, Pair, Place, RowError, blank, plain
from alignment_trainer.data.spill import Spill, hash64, pack_event
from alignment_trainer.data.votes import Votes
from alignment_trainer.errors import DataError
from alignment_trainer.storage.store import ObjectInfo, ObjectStore

__all__ = ["Intake", "SourceRead", "list_sources", "read_sources"]

_POLL_ROWS = 4096


@dataclass(frozen=True)
class SourceRead:
    """One source file as it was read. sha256: hex."""

    uri: str
    size: int
    etag: str
    sha256: str


@dataclass
class Intake:
    """Where rows go, and what is noted about them."""

    account: Account
    exclusions: Exclusions
    normaliser: Normaliser
    redactor: Redactor
    events: Spill
    emit: Callable[[Pair], None]
    index: EventIndex = field(default_factory=EventIndex)
    votes: Votes = field(default_factory=Votes)

    def take(self, row: Pair | Event) -> None:
        """Exclude, normalise, redact, pass on."""
        if self.exclusions.covers(row):
            self.account.drop(row.place, "excluded", "an exclusion names its id, group or actor")
        elif isinstance(row, Event):
            self._take_event(row)
        else:
            self._take_pair(row)

    def _take_event(self, row: Event) -> None:
        self.account.events += 1
        event = self.normaliser.event(row)
        if self.redactor.active:
            redacted = self.redactor.event(event)
            if redacted is None:
                self._refuse(row.place)
                return
            event = redacted
        texts = [event.response, event.edited, event.other]
        if blank(event.prompt) or any(t is not None and not t.strip() for t in texts):
            self.account.refuse(row.place, _nothing_left())
            return
        context = context_of(event)
        number = self.index.add(event, context)
        size = len(plain(event.prompt)) + sum(len(t) for t in texts if t)
        self.events.add(hash64(context), (number, *pack_event(event)), size)

    def _take_pair(self, row: Pair) -> None:
        pair = self.normaliser.pair(row)
        if self.redactor.active:
            redacted = self.redactor.pair(pair)
            if redacted is None:
                self._refuse(row.place)
                return
            pair = redacted
        if any(blank(text) for text in (pair.prompt, pair.chosen, pair.rejected)):
            self.account.refuse(row.place, _nothing_left())
            return
        self.votes.add_pair(pair)
        self.emit(pair)

    def _refuse(self, place: Place) -> None:
        self.account.drop(
            place, "identifier", "a detector of data.redaction found an identifier, and the mode is Refuse"
        )


def _nothing_left() -> RowError:
    return RowError("TextEmpty", "a text holds nothing but control characters")


def list_sources(spec: DataSpec, stores: Callable[[str], ObjectStore]) -> list[tuple[ObjectInfo, int]]:
    """Every file once, with the index of the first source that names it, in the order of their URIs."""
    found: dict[str, tuple[ObjectInfo, int]] = {}
    for index, source in enumerate(spec.sources):
        files = list(stores(source.uri).list(source.uri))
        if not files:
            raise DataError(
                f"spec.data.sources[{index}] ({source.uri}) matches no object; check the URI.",
                reason="SourceEmpty",
            )
        for info in files:
            found.setdefault(info.uri, (info, index))
    return [found[uri] for uri in sorted(found)]


def read_sources(
    spec: DataSpec,
    stores: Callable[[str], ObjectStore],
    scratch: Path,
    intake: Intake,
    tick: Callable[[str, int, int], None],
) -> list[SourceRead]:
    """Read every row into the intake. Raises DataError for damaged files."""
    listed = list_sources(spec, stores)
    done: list[SourceRead] = []
    for number, (info, index) in enumerate(listed):
        source = spec.sources[index]
        file = SourceFile(info, stores(info.uri), scratch)

        def poll(done: int = number) -> None:
            tick(f"reading sources, {intake.account.rows} rows", done, len(listed))

        for place, row in _polled(file.rows(), intake.account, poll):
            try:
                if isinstance(row, RowError):
                    raise row
                parsed = read_row(row, place, source.format)
            except RowError as error:
                intake.account.refuse(place, error)
                continue
            # A source that is declared synthetic stays so, whatever its rows say of themselves.
            if source.origin is Origin.SYNTHETIC:
                parsed = replace(parsed, origin=model.Origin.SYNTHETIC)
            intake.take(parsed)
        done.append(SourceRead(info.uri, info.size, info.etag, file.sha256))
    return done


def _polled(
    rows: Iterator[tuple[Place, object | RowError]], account: Account, tick: Callable[[], None]
) -> Iterator[tuple[Place, object | RowError]]:
    tick()
    for row in rows:
        account.rows += 1
        if account.rows % _POLL_ROWS == 0:
            tick()
        yield row
