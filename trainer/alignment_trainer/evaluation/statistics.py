"""Estimates with intervals: means, proportions and paired differences, by cluster where there are clusters.

Plain statistics on numbers, no models. Observations of one group (a patient, a document, an author) are not
independent, so errors are computed between groups. docs/gate.md says why each method was taken and
``make bench-gate`` measures that the intervals cover and the tests hold their level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from alignment_trainer.data.shares import wilson
from alignment_trainer.evaluation.power import ASSUMED_CORRELATION, needed

__all__ = [
    "Estimate",
    "bootstrap",
    "bounds",
    "mean_by_cluster",
    "needed_observations",
    "p_value",
    "proportion",
    "rate_difference",
]

_FEW_GROUPS: Final = 2
_FEW_EQUAL: Final = 10
"""Observations that are all equal show no spread; in fewer groups than this nothing says that there is none."""
_REPLICATES: Final = 1000
_QUANTILES: Final = (np.arange(200) + 0.5) / 200
"""At which a beta distribution is averaged over."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    value, standard_error: in the metric's unit. degrees: of freedom of the t distribution. n: observations;
    clusters: independent groups among them. design_effect: variance between groups over variance without groups.
    effective: for proportions, the number of independent binary observations that would be worth as much; None for
    means. skewness: of the mean's own distribution (an observation's skewness over √n). missing: further observations
    between 0 and 1 whose value is not known; bounds take it for the worst. lowest_of: how many estimates this one was
    picked from for being low; the upper bound then holds for the lowest truth among them.
    """

    value: float
    standard_error: float
    degrees: float
    n: int
    clusters: int
    design_effect: float
    method: str
    effective: float | None = None
    skewness: float = 0.0
    missing: int = 0
    lowest_of: int = 1

    @property
    def standard_deviation(self) -> float:
        """Of one observation, the groups' effect included: what a sample size is planned with."""
        return self.standard_error * math.sqrt(self.n)


def mean_by_cluster(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Mean with the bias-reduced cluster-robust error CR2, Satterthwaite degrees of freedom, corrected for skewness.

    Bell and McCaffrey 2002 in closed form, Imbens and Kolesár 2016: with groups of very unequal size (a few authors who
    edit a lot) the number of groups overstates the degrees of freedom, and these do not. Hall 1992 for the skewness: a model
    that is mostly a little better and rarely far worse looks better than it is to a plain t test. The correction may only
    widen: where tails are heavy and symmetric, the skewness that a sample shows is chance.

    values: one number per observation; clusters: its group, empty strings count as groups of their own.
    Raises ValueError, with the reason, where no error can be estimated.
    """
    data = _finite(values)
    n = len(data)
    inverse, sizes = _groups(clusters)
    groups = len(sizes)
    if groups < _FEW_GROUPS:
        raise ValueError(f"{n} observations in {groups} group(s): no error can be estimated")
    mean = float(data.mean())
    residuals = np.bincount(inverse, weights=data - mean, minlength=groups)
    leverage = sizes / n
    variance = float((residuals**2 / (1 - leverage)).sum()) / n**2
    plain = float(data.var(ddof=1)) / n
    if np.ptp(data) == 0 and groups < _FEW_EQUAL:
        raise ValueError(f"{n} observations in {groups} groups are all equal: too few to say how they vary")
    method = "t, CR2 by group" if groups < n else "t"
    largest = float(np.abs(residuals).max())
    unit = residuals / largest if largest > 0 else residuals  # cubes of tiny numbers vanish
    return Estimate(
        mean,
        math.sqrt(variance),
        _degrees(sizes, _correlation(data, inverse, sizes)),
        n,
        groups,
        variance / plain if plain > 0 else 1.0,
        f"{method}, skewness corrected",
        skewness=float((unit**3).sum()) / float((unit**2).sum()) ** 1.5 if largest > 0 else 0.0,
    )


def rate_difference(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Paired difference of two rates (values -1, 0, 1), after Agresti and Min 2005: half an observation to each cell.

    Without it, no event in three prompts would be proof that there never is one. Observations of one group prove less than
    as many alone; where nothing varies, a correlation is assumed.
    """
    estimate = _or_equal(values, clusters)
    n = estimate.n
    design = max(estimate.design_effect, 1.0)
    if estimate.standard_error == 0:
        _, sizes = _groups(clusters)
        design = 1 + (float((sizes**2).sum()) / n - 1) * ASSUMED_CORRELATION
    variance = (estimate.standard_error * n / (n + 2)) ** 2 + 1 / (n / design + 2) ** 2
    method = "t, Agresti-Min, CR2 by group" if estimate.clusters < n else "t, Agresti-Min"
    return replace(estimate, standard_error=math.sqrt(variance), method=method, skewness=0.0)


def proportion(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Mean of 0, ½ and 1, with a score interval (Wilson) on the effective number of observations.

    Korn and Graubard 1998: n over the design effect, further reduced by the t distribution's tails, with degrees of freedom
    of the effective number itself. Ties carry less variance than wins and losses, and so count for more than one
    observation. A design effect below 1 is taken for chance and set to 1.
    """
    estimate = _or_equal(values, clusters)
    data = np.asarray(values, dtype=float)
    n, p = estimate.n, estimate.value
    design = max(estimate.design_effect, 1.0)
    binary = p * (1 - p) / max(n - 1, 1)
    plain = float(data.var(ddof=1)) / n if n > 1 else 0.0
    ties = plain / binary if 0 < plain < binary else 1.0
    method = "Wilson, design effect by group" if estimate.clusters < n else "Wilson"
    degrees = _degrees_of_effective(data, clusters) if plain > 0 else estimate.degrees
    return replace(
        estimate,
        degrees=degrees,
        design_effect=design,
        method=method,
        effective=n / (design * ties),
        skewness=0.0,
    )


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], clusters: Sequence[str], *, seed: int = 0
) -> Estimate:
    """Estimate of any statistic of the observations' indices, its error by resampling whole groups.

    statistic: from indices (with repetition) to the number; may raise ValueError for a resample it cannot fit, and at
    most one in twenty may. Raises ValueError otherwise.
    """
    inverse, sizes = _groups(clusters)
    groups, n = len(sizes), len(inverse)
    if groups < _FEW_EQUAL:
        raise ValueError(f"{n} observations in {groups} groups: too few to resample")
    rng = np.random.default_rng(seed)
    value = statistic(np.arange(n))
    error = _resampled_error(statistic, [np.flatnonzero(inverse == group) for group in range(groups)], rng)
    if groups == n:
        return Estimate(value, error, _degrees(sizes), n, groups, 1.0, "t, bootstrap")
    alone = _resampled_error(statistic, [np.array([index]) for index in range(n)], rng)
    design = (error / alone) ** 2 if alone > 0 else 1.0
    return Estimate(value, error, _degrees(sizes), n, groups, design, "t, bootstrap by group")


def _resampled_error(
    statistic: Callable[[NDArray[np.int64]], float],
    members: Sequence[NDArray[np.int64]],
    rng: np.random.Generator,
) -> float:
    """Standard deviation of the statistic over resamples of whole groups."""
    found = []
    for _ in range(_REPLICATES):
        drawn = rng.integers(len(members), size=len(members))
        try:
            found.append(statistic(np.concatenate([members[group] for group in drawn])))
        except ValueError:
            continue
    if len(found) < 0.95 * _REPLICATES:
        raise ValueError(
            f"the fit failed in {_REPLICATES - len(found)} of {_REPLICATES} resamples: too little data"
        )
    return float(np.std(found, ddof=1))


def bounds(estimate: Estimate, alpha: float) -> tuple[float, float]:
    """One-sided bounds, each at confidence 1 - alpha; together a two-sided interval at 1 - 2 alpha.

    What is missing counts as 0 for the lower one and as 1 for the upper one (Manski 1989): it is seldom missing at random.
    Of several, one is low by chance, so the upper bound of the lowest shares alpha among all (Bonferroni); the lower one
    needs no share: it is below the lowest truth already when that one's own bound is.
    """
    low, high = _bounds_of_known(estimate, alpha)
    if estimate.lowest_of > 1:
        _, high = _bounds_of_known(estimate, alpha / estimate.lowest_of)
    known = estimate.n / (estimate.n + estimate.missing)
    return (low * known, 1 - (1 - high) * known) if estimate.missing else (low, high)


def _bounds_of_known(estimate: Estimate, alpha: float) -> tuple[float, float]:
    tail = -float(special.stdtrit(estimate.degrees, alpha))
    if estimate.effective is None:
        error, skewness = estimate.standard_error, estimate.skewness
        low = estimate.value - error * max(tail, _unskewed(tail, skewness))
        high = estimate.value - error * min(-tail, _unskewed(-tail, skewness))
        return low, high
    return wilson(estimate.value, estimate.effective, tail)


def p_value(estimate: Estimate, limit: float, *, above: bool) -> float:
    """Of the mean lying at ``limit`` or on its wrong side. above: True when it should lie above.

    Consistent with :func:`bounds`: p < alpha exactly when the bound at alpha clears the limit.
    """
    shares = 1 if above else estimate.lowest_of
    limit = _limit_of_known(estimate, limit, above=above)
    distance = (estimate.value - limit) if above else (limit - estimate.value)
    error = estimate.standard_error
    if estimate.effective is not None:
        error = math.sqrt(max(limit * (1 - limit), 0.0) / estimate.effective)
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    skewness = estimate.skewness if above else -estimate.skewness
    studentised = distance / error
    p = float(special.stdtr(estimate.degrees, -min(studentised, _skewed(studentised, skewness))))
    return min(1.0, shares * p)


def _limit_of_known(estimate: Estimate, limit: float, *, above: bool) -> float:
    """What the known observations must clear for all of them to clear ``limit``, whatever the missing ones are."""
    if not estimate.missing:
        return limit
    known = estimate.n / (estimate.n + estimate.missing)
    return limit / known if above else 1 - (1 - limit) / known


def needed_observations(estimate: Estimate, limit: float, effect: float, alpha: float) -> int | None:
    """Observations for 80 % power to clear ``limit`` when the truth lies ``effect`` beyond it (signed).

    None where so many are missing that no number would do.

    Planned at the stated effect, not at the observed one, which says nothing new (Hoenig and Heisey 2001); with the
    spread and the design effect that were measured, and as many more groups as there are more observations.
    """
    deviation = estimate.standard_deviation
    if estimate.effective is not None:
        truth = min(max(limit + effect, 0.05), 0.95)
        deviation = math.sqrt(truth * (1 - truth) * estimate.n / estimate.effective)
    beyond = limit + effect - _limit_of_known(estimate, limit, above=effect > 0)
    if beyond * effect <= 0:
        return None
    a_pair = (estimate.degrees + 1) / estimate.n
    return needed(deviation, abs(beyond), alpha, lambda count: max(1.0, a_pair * count - 1))


def _or_equal(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Like :func:`mean_by_cluster`, but equal values are an estimate: the caller's interval has a width of its own."""
    data = _finite(values)
    if len(data) > 0 and np.ptp(data) == 0:
        _, sizes = _groups(clusters)
        if len(sizes) >= _FEW_GROUPS:
            method = "t, CR2 by group" if len(sizes) < len(data) else "t"
            # Without spread there is no correlation to see: the cautious reading is that groups count once.
            design = len(data) / len(sizes)
            return Estimate(float(data[0]), 0.0, _degrees(sizes), len(data), len(sizes), design, method)
    return mean_by_cluster(values, clusters)


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=float)
    if len(data) == 0:
        raise ValueError("there are no observations")
    odd = int((~np.isfinite(data)).sum())
    if odd:
        raise ValueError(f"{odd} of {len(data)} observations are not finite numbers")
    return data


def _groups(clusters: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index of each observation's group, and the groups' sizes."""
    labels = np.asarray([label or f"\0{index}" for index, label in enumerate(clusters)])
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return inverse, sizes.astype(float)


def _degrees(sizes: NDArray[np.float64], correlation: float = 0.0) -> float:
    """Satterthwaite degrees of freedom of the variance of a mean whose groups correlate (Imbens and Kolesár 2016).

    A group's sum has variance m·(1 + (m - 1)·ρ) in the working model; degrees = (Σv)² / Σv² less one for the mean. For
    single observations this is n - 1.
    """
    variances = sizes * (1 + (sizes - 1) * correlation)
    return max(1.0, float(variances.sum()) ** 2 / float((variances**2).sum()) - 1)


def _degrees_of_effective(data: NDArray[np.float64], clusters: Sequence[str]) -> float:
    """Degrees of freedom of a proportion's effective number of observations: two over the variance of its logarithm, less one.

    That number is n·p(1 - p) over the squared sums of the groups. Working model: a comparison is decided (0 or 1, not ½)
    independently, and the groups' own rates are beta distributed with the correlation that was measured. Sums of wins and
    losses vary less than the normal ones of :func:`_degrees`, so there are more degrees; rarely decided ones vary more. Never
    more than groups less one; without groups and ties the number is known, not estimated.
    """
    inverse, sizes = _groups(clusters)
    mean, decided = float(data.mean()), float((data != 0.5).mean())
    rate = min(max(0.5 + (mean - 0.5) / decided, 0.001), 0.999)  # of winning a decided comparison
    within = decided * rate * (1 - rate)
    spread = within + decided * (1 - decided) * (rate - 0.5) ** 2  # of one comparison
    correlation = min(0.95, _correlation(data, inverse, sizes) * spread / (decided * within))
    second, third, fourth, counts = _moments(sizes, rate, decided, correlation)
    total = float((counts * second).sum())
    slope = (1 - 2 * mean) / (mean * (1 - mean) * len(data))
    variance = slope**2 * second - 2 * slope * third / total + (fourth - second**2) / total**2
    found = float((counts * variance).sum())
    most = len(sizes) - 1.0
    return max(1.0, min(most, 2 / found - 1)) if found > 0 else max(1.0, most)


def _moments(
    sizes: NDArray[np.float64], rate: float, decided: float, correlation: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Second to fourth central moments of the sums of groups of each size, and how many groups have it.

    Given a group's own rate u its comparisons are independent, and cumulants add; then the mean over u.
    """
    rates = np.array([rate])
    if correlation > 1e-6:
        scale = (1 - correlation) / correlation
        rates = special.betaincinv(rate * scale, (1 - rate) * scale, _QUANTILES)
    shift = decided * (rates - 0.5)  # a group's mean, from ½
    chances = np.stack([decided * (1 - rates), decided * rates, np.full_like(rates, 1 - decided)])
    away = np.stack([-0.5 - shift, 0.5 - shift, -shift])
    two, three, four = ((chances * away**power).sum(0) for power in (2, 3, 4))
    unique, counts = np.unique(sizes, return_counts=True)
    m = unique[:, None]
    off = m * (shift - shift.mean())
    second = (off**2 + m * two).mean(1)
    third = (off**3 + 3 * off * m * two + m * three).mean(1)
    fourth = (
        off**4 + 6 * off**2 * m * two + 4 * off * m * three + m * (four - 3 * two**2) + 3 * (m * two) ** 2
    )
    return second, third, fourth.mean(1), counts.astype(float)


def _correlation(data: NDArray[np.float64], inverse: NDArray[np.int64], sizes: NDArray[np.float64]) -> float:
    """Correlation within groups by the analysis of variance, between 0 and 1; 0 where every group is one observation."""
    n, groups = len(data), len(sizes)
    if groups == n:
        return 0.0
    means = np.bincount(inverse, weights=data, minlength=groups) / sizes
    between = float((sizes * (means - data.mean()) ** 2).sum()) / (groups - 1)
    within = float(((data - means[inverse]) ** 2).sum()) / (n - groups)
    typical = (n - float((sizes**2).sum()) / n) / (groups - 1)
    spread = between + (typical - 1) * within
    return min(1.0, max(0.0, (between - within) / spread)) if spread > 0 else 0.0


def _skewed(t: float, skewness: float) -> float:
    """Hall's monotone transformation of a studentised mean: nearer to a t distribution than t itself. Hall 1992, section 3.9."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _unskewed(z: float, skewness: float) -> float:
    """Inverse of :func:`_skewed`."""
    if abs(skewness) < 1e-6:
        return z - skewness / 6
    return 3 / skewness * (float(np.cbrt(1 + skewness * (z - skewness / 6))) - 1)
