"""Every row is accounted for: quarantine with source, line and reason, and the counts of the funnel.

``rows = pairs + invalid + excluded + duplicates + contradictions + unpaired + Σ dropped``: a pair stands for one
row, and the further rows that went into it (links of a chain, the other side of opposite signals) are counted
among the dropped as ``collapsed`` and ``joined``. All others are in the quarantine file, once each.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from pathlib import Path
from typing import Final

from alignment_trainer.data.rows import Place, RowError

__all__ = ["Account"]

_WORST: Final = 5
_PLACES: Final = 3
_SENTENCES: Final = 1000
"""Different sentences kept; a file of garbage must not fill the memory with what is wrong with it."""


class Account:
    """Counts rows and remembers, in 20 bytes each, those that are left out.

    invalid: rows that cannot be read, by code. dropped: rows left out by a rule, by reason. places: the first
    few places of each code of an invalid row.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.events = 0
        self.invalid: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}
        self._uris: dict[str, int] = {}
        self._sentences: dict[tuple[str, str], int] = {}
        self._left_out = (array("Q"), array("Q"), array("I"))

    def refuse(self, place: Place, error: RowError) -> None:
        """A row that cannot be read as a pair or an event."""
        self.invalid[error.code] += 1
        places = self.places.setdefault(error.code, [])
        if len(places) < _PLACES:
            places.append(str(place))
        self._leave_out(place, error.code, error.message)

    def drop(self, place: Place, reason: str, message: str) -> None:
        """A row that is left out by a rule."""
        self.dropped[reason] += 1
        self._leave_out(place, reason, message)

    def merge(self, reason: str, rows: int = 1) -> None:
        """Further rows that went into a pair; they are not left out, so they are not quarantined."""
        if rows:
            self.dropped[reason] += rows

    def sentence(self, reason: str) -> str:
        """What was wrong with the first row that was left out for this reason."""
        return next((message for known, message in self._sentences if known == reason), "")

    def worst(self) -> str:
        """The most frequent faults with example places, for the message that ends a run."""
        return "; ".join(
            f"{count} × {code} (e.g. {', '.join(self.places[code])})"
            for code, count in sorted(self.invalid.items(), key=lambda item: (-item[1], item[0]))[:_WORST]
        )

    def write_quarantine(self, path: Path) -> None:
        """All rows left out, by source and line, as JSON lines ``{source, line, reason, message}``."""
        import numpy as np

        uris = sorted(self._uris)
        ranks = {uri: rank for rank, uri in enumerate(uris)}
        rank_of = np.array([ranks[uri] for uri in self._uris] or [0], dtype=np.uint64)
        sources, lines, sentences = (np.asarray(column) for column in self._left_out)
        order = np.lexsort((lines, rank_of[sources]))
        known_uris = list(self._uris)
        known = [
            f', "reason": {json.dumps(reason)}, "message": {json.dumps(message, ensure_ascii=False)}}}\n'
            for reason, message in self._sentences
        ]
        heads = [f'{{"source": {json.dumps(uri, ensure_ascii=False)}, "line": ' for uri in known_uris]
        with path.open("w", encoding="utf-8") as file:
            for index in order:
                file.write(f"{heads[sources[index]]}{lines[index]}{known[sentences[index]]}")

    def _leave_out(self, place: Place, reason: str, message: str) -> None:
        sources, lines, sentences = self._left_out
        if len(self._sentences) >= _SENTENCES and (reason, message) not in self._sentences:
            message = ""
        sources.append(self._uris.setdefault(place.uri, len(self._uris)))
        lines.append(place.line)
        sentences.append(self._sentences.setdefault((reason, message), len(self._sentences)))
