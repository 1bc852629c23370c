"""Win rate and standard error as AlpacaEval defines them, from a file of preferences. Plain arithmetic.

A row is one comparison; ``preference`` lies between 1 (the baseline's answer is better) and 2 (the model's is), 1.5 is a
draw and so is 0, the old spelling. Rows without a preference (null or absent) are left out and counted. Win rate: mean of
preference − 1, in per cent; standard error: sample standard deviation (n − 1) over √n, in per cent. A win is above 1.5
and a loss below. Same definitions as ``alpaca_eval/metrics/winrate.py`` (tatsu-lab/alpaca_eval), so that published
per-comparison judgements can be checked: ``align gate win-rate annotations.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from alignment_trainer.errors import DataError

__all__ = ["AlpacaWinRate", "alpaca_win_rate", "read_preferences"]

_LOWEST: Final = 1.0
_DRAW: Final = 1.5
_HIGHEST: Final = 2.0


@dataclass(frozen=True)
class AlpacaWinRate:
    """win_rate, standard_error: per cent. missing: rows without a preference, left out of ``total``."""

    win_rate: float
    standard_error: float
    wins: int
    losses: int
    draws: int
    total: int
    missing: int


def alpaca_win_rate(preferences: Iterable[float | None]) -> AlpacaWinRate:
    """Win rate of preferences between 1 and 2. Raises DataError for numbers outside, or when none is left."""
    values, missing = [], 0
    for number, preference in enumerate(preferences, start=1):
        if preference is None or math.isnan(preference):
            missing += 1
            continue
        value = _DRAW if preference == 0 else float(preference)
        if not _LOWEST <= value <= _HIGHEST:
            raise DataError(
                f"comparison {number}: preference {preference:g} is not between 1 and 2 (0 is a draw, null is none).",
                reason="PreferenceInvalid",
            )
        values.append(value - 1)
    if not values:
        raise DataError(
            "no comparison has a preference; nothing can be computed.", reason="PreferenceInvalid"
        )
    data = np.array(values)
    error = float(data.std(ddof=1) / math.sqrt(len(data))) if len(data) > 1 else math.nan
    return AlpacaWinRate(
        win_rate=100 * float(data.mean()),
        standard_error=100 * error,
        wins=int((data > 0.5).sum()),
        losses=int((data < 0.5).sum()),
        draws=int((data == 0.5).sum()),
        total=len(values),
        missing=missing,
    )


def read_preferences(path: Path) -> list[float | None]:
    """Preferences of a JSON list, or of JSON lines, of rows with a ``preference``. Raises DataError naming the row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (from byte {error.start} on); save it as UTF-8.", reason="PreferenceInvalid"
        ) from None
    found: list[float | None] = []
    for number, row in enumerate(_rows(text, path), start=1):
        value = row.get("preference") if isinstance(row, dict) else row
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DataError(
                f"{path}: row {number} has no number as its preference; write 1 to 2, or null.",
                reason="PreferenceInvalid",
            )
        found.append(value)
    return found


def _rows(text: str, path: Path) -> list[Any]:
    whole = text.lstrip().startswith("[")
    rows: list[Any] = []
    for number, part in enumerate([text] if whole else text.split("\n")):
        if not part.strip():
            continue
        try:
            rows.append(json.loads(part))
        except (ValueError, RecursionError) as error:  # neither are numbers nor depths without end
            line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
            raise DataError(
                f"{path}: not JSON at line {number + line}, column {column}; give a list of rows, or one row a line.",
                reason="PreferenceInvalid",
            ) from None
    return rows[0] if whole else rows
