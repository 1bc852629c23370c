"""Shares with their interval: Wilson's, at 95 %."""

from __future__ import annotations

import math
from typing import Final

from alignment_api.status import Share

__all__ = ["share"]

_Z: Final = 1.959963984540054
"""Two-sided 95 %."""


def share(estimate: float, n: int) -> Share:
    """A share of ``n`` cases with Wilson's interval (Wilson 1927); ``estimate`` 0 to 1, n above 0."""
    center = (estimate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(estimate * (1 - estimate) / n + _Z**2 / (4 * n**2))
    return Share(estimate=estimate, low=max(0.0, center - half), high=min(1.0, center + half), n=n)
