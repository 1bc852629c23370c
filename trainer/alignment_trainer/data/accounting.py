"""Every row is accounted for: quarantine with source, line and reason, and the funnel that adds up.

``rows = pairs + invalid + excluded + duplicates + contradictions + unpaired + Σ dropped``: a pair stands for one
row, and the further rows that went into it (links of a chain, the other side of opposite signals) are counted
among the dropped as ``collapsed`` and ``joined``.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final

from alignment_trainer.data.rows import Pair, Place, RowError

__all__ = ["Account"]

_WORST: Final = 5
_PLACES: Final = 3


class Account:
    """Counts rows and writes the quarantine file."""

    def __init__(self, quarantine: Path) -> None:
        self._file = quarantine.open("w", encoding="utf-8")
        self.rows = 0
        self.events = 0
        self.neutralised = 0
        self.invalid: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def refuse(self, place: Place, error: RowError) -> None:
        """A row that cannot be read as a pair or an event."""
        self.invalid[error.code] += 1
        self.places.setdefault(error.code, [])
        if len(self.places[error.code]) < _PLACES:
            self.places[error.code].append(str(place))
        self._write(place, error.code, error.message)

    def drop(self, pair: Pair, reason: str, message: str) -> None:
        """A pair that is left out by a rule."""
        self.dropped[reason] += 1
        self._write(pair.place, reason, message)

    def count(self, reason: str, rows: int) -> None:
        """Rows that a rule leaves out without a fault of theirs."""
        if rows:
            self.dropped[reason] += rows

    def close(self) -> None:
        """Finish the quarantine file."""
        self._file.close()

    def worst(self) -> str:
        """The most frequent faults with example places, for the message that ends a run."""
        return "; ".join(
            f"{count} × {code} (e.g. {', '.join(self.places[code])})"
            for code, count in self.invalid.most_common(_WORST)
        )

    def _write(self, place: Place, reason: str, message: str) -> None:
        row = {"source": place.uri, "line": place.line, "reason": reason, "message": message}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
