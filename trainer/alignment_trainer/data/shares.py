"""Shares with their interval: Wilson's (Wilson 1927)."""

from __future__ import annotations

import math
from typing import Final

from alignment_api.status import Share

__all__ = ["share", "wilson"]

_Z: Final = 1.959963984540054
"""Two-sided 95 %."""


def share(estimate: float, n: int) -> Share:
    """A share of ``n`` cases with its interval at 95 %; ``estimate`` 0 to 1, n above 0."""
    low, high = wilson(estimate, n)
    return Share(estimate=estimate, low=low, high=high, n=n)


def wilson(estimate: float, n: float, quantile: float = _Z) -> tuple[float, float]:
    """Interval of a share (0 to 1) of ``n`` cases, an effective number perhaps. quantile: of the two-sided level, in standard errors."""
    center = (estimate + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    spread = math.sqrt(estimate * (1 - estimate) / n + quantile**2 / (4 * n**2))
    half = quantile / (1 + quantile**2 / n) * spread
    # The share lies in its interval; at 0 and 1, where it is the end of it, rounding must not say otherwise.
    return max(0.0, min(estimate, center - half)), min(1.0, max(estimate, center + half))
