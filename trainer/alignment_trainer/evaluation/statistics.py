"""Estimates with intervals: proportions, means and paired differences, by cluster where there are clusters.

Plain statistics on numbers, no models. Every function says which method it used; docs/gate.md justifies them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

__all__ = ["Estimate", "bounds", "mean_by_cluster", "needed_observations", "p_value", "proportion"]

_FEW_CLUSTERS = 2


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    value, standard_error: in the metric's unit; degrees: of freedom of the t distribution; design_effect:
    variance with clusters over variance without; binary: every observation is 0, ½ or 1.
    """

    value: float
    standard_error: float
    degrees: float
    n: int
    clusters: int
    design_effect: float
    method: str
    binary: bool = False

    @property
    def standard_deviation(self) -> float:
        """Of one observation, clusters' effect included: what a sample size is planned with."""
        return self.standard_error * math.sqrt(self.n)


def mean_by_cluster(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Mean with a cluster-robust standard error (Cameron and Miller 2015, equation 11, with the G/(G-1) correction).

    values: one number per observation; clusters: its group, empty strings count as groups of their own.
    Raises ValueError for fewer than two clusters, where no error can be estimated.
    """
    data = np.asarray(values, dtype=float)
    labels = np.asarray([label or f"\0{index}" for index, label in enumerate(clusters)])
    n = len(data)
    names, inverse = np.unique(labels, return_inverse=True)
    groups = len(names)
    if groups < _FEW_CLUSTERS:
        raise ValueError(f"{n} observations in {groups} group(s): no error can be estimated")
    mean = float(data.mean())
    residual_sums = np.bincount(inverse, weights=data - mean, minlength=groups)
    variance = groups / (groups - 1) * float((residual_sums**2).sum()) / n**2
    plain = float(data.var(ddof=1)) / n
    method = "t, clustered by group" if groups < n else "t"
    return Estimate(
        mean, math.sqrt(variance), groups - 1, n, groups, variance / plain if plain > 0 else 1.0, method
    )


def proportion(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Mean of 0, ½ and 1, with intervals by Wilson on the effective sample size n / design effect."""
    estimate = mean_by_cluster(values, clusters)
    return Estimate(
        estimate.value,
        estimate.standard_error,
        estimate.degrees,
        estimate.n,
        estimate.clusters,
        max(estimate.design_effect, 1.0),
        "Wilson, clustered by group" if estimate.clusters < estimate.n else "Wilson",
        binary=True,
    )


def bounds(estimate: Estimate, alpha: float) -> tuple[float, float]:
    """One-sided bounds, each at confidence 1 - alpha; together a two-sided interval at 1 - 2 alpha."""
    if estimate.binary:
        effective = estimate.n / estimate.design_effect
        low, high = proportion_confint(
            estimate.value * effective, effective, alpha=2 * alpha, method="wilson"
        )
        return float(low), float(high)
    half = float(stats.t.ppf(1 - alpha, estimate.degrees)) * estimate.standard_error
    return estimate.value - half, estimate.value + half


def p_value(estimate: Estimate, limit: float, *, above: bool) -> float:
    """Of the mean lying at ``limit`` or on its wrong side. above: True when it should lie above.

    Consistent with :func:`bounds`: p < alpha exactly when the bound at alpha clears the limit (score test for
    proportions, t test otherwise).
    """
    distance = (estimate.value - limit) if above else (limit - estimate.value)
    if estimate.binary:
        error = math.sqrt(limit * (1 - limit) * estimate.design_effect / estimate.n)
        return float(stats.norm.sf(distance / error)) if error > 0 else (0.0 if distance > 0 else 1.0)
    if estimate.standard_error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / estimate.standard_error, estimate.degrees))


def needed_observations(estimate: Estimate, effect: float, alpha: float, power: float = 0.8) -> int:
    """Observations for ``power`` to clear the limit when the truth lies ``effect`` beyond it.

    Planned at the stated effect, not at the observed one, which says nothing new (Hoenig and Heisey 2001).
    """
    z = float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(power))
    return math.ceil((z * estimate.standard_deviation / effect) ** 2)
