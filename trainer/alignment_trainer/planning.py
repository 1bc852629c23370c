"""How large a holdout must be, and what a given one can show. Plain arithmetic on normal quantiles.

Called by prepare (which warns before any GPU is used), by ``align gate plan`` and ``align run --plan``.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

__all__ = ["EDIT_BURDEN_DEVIATION", "WIN_RATE_DEVIATION", "pairs_needed", "smallest_effect"]

EDIT_BURDEN_DEVIATION: Final = 0.15
"""Standard deviation of one prompt's difference in edit burden, as measured on simulated clinical notes (docs/gate.md)."""
WIN_RATE_DEVIATION: Final = 0.5
"""Standard deviation of one comparison at a win rate near one half, without ties: the largest there is."""


def smallest_effect(pairs: int, alpha: float, deviation: float, power: float = 0.8) -> float:
    """Smallest distance from the limit that ``pairs`` held-out pairs show with ``power`` at one-sided ``alpha``."""
    return _quantiles(alpha, power) * deviation / math.sqrt(pairs)


def pairs_needed(effect: float, alpha: float, deviation: float, power: float = 0.8) -> int:
    """Held-out pairs that show ``effect`` with ``power`` at one-sided ``alpha``."""
    return math.ceil((_quantiles(alpha, power) * deviation / effect) ** 2)


def _quantiles(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
