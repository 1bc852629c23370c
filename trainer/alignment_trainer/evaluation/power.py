"""How many observations show an effect, with the t quantiles of as many groups as these observations come from.

Used before anything is measured (``planning``) and after (``statistics``), so that a plan and the decision it is about
agree: with few groups the decision's quantile is far from the normal one. Pure arithmetic; light to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

__all__ = ["ASSUMED_CORRELATION", "FEWEST", "POWER", "needed", "passing", "reach"]

POWER: Final = 0.8
"""Chance that a plan gives a true effect to be seen."""
ASSUMED_CORRELATION: Final = 0.1
"""Of two observations of one group, where nothing has been measured that would show it."""
FEWEST: Final = 2
"""Observations below which no error can be estimated."""


def passing(alpha: float, degrees: float) -> float:
    """Standard errors beyond a limit at which an observation passes at one-sided ``alpha``."""
    from scipy.special import stdtrit  # late: the command line reads this module for its help

    return float(stdtrit(degrees, 1 - alpha))


def reach(alpha: float, degrees: float, power: float = POWER) -> float:
    """True standard errors beyond a limit that pass with ``power`` at one-sided ``alpha``: of a non-central t."""
    from scipy.special import nctdtrinc

    return float(nctdtrinc(degrees, 1 - power, passing(alpha, degrees)))


def needed(deviation: float, effect: float, alpha: float, degrees: Callable[[int], float]) -> int:
    """Fewest observations that show a true ``effect`` (positive) with 80 % power at one-sided ``alpha``.

    deviation: of one observation, in the effect's unit, groups included. degrees: of freedom with so many
    observations; more of them never mean fewer.
    """

    def enough(count: int) -> bool:
        return reach(alpha, degrees(count)) * deviation <= effect * math.sqrt(count)

    high = FEWEST
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(FEWEST, high)
