"""``winRateLengthControlled``: would the candidate win at equal length?

Definition: logistic(a) of the fit preference ~ logistic(a + b·tanh(Δ/s)), Δ the difference in characters, s its standard
deviation: the win rate predicted at no difference (the length part of AlpacaEval 2's model, arXiv 2404.04475). Unit:
ratio. Direction: above one half is better. Its error is that of the whole fit, by resampling groups, and at least that of
the plain win rate.

Where one model is nearly always the longer one, nothing is known about equal lengths and the fit extrapolates (a win
rate of 7 % becomes 39 % where 1 % of answers are longer). Then it is unavailable, not wrong; the overlap of the two
length distributions stands beside it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics.win_rate import judged
from alignment_trainer.evaluation.statistics import bootstrap

__all__ = ["fit_at_equal_length", "overlap", "win_rate_length_controlled"]

_LEAST_OVERLAP = 0.3
_LEAST_BOTH_WAYS = 0.1
_EQUAL = 0.05
"""Lengths that differ by less than this share are equal."""
_RIDGE = 0.5
"""Penalty on the slope, in observations: keeps the fit finite where all long answers win."""


def win_rate_length_controlled(material: Material, _selector: str) -> Measurement:
    """Win rate at equal length; clusters: groups. The message gives the overlap."""
    at, missing, remark = judged(material)
    assert material.judgements is not None  # noqa: S101  judged() saw to it
    preferences = np.array([float(material.judgements[i].preference or 0.0) for i in at])
    ours = np.array([len(material.candidate[i].text) for i in at], dtype=float)
    theirs = np.array([len(material.champion[i].text) for i in at], dtype=float)
    share = overlap(ours, theirs)
    both = _both_ways(ours, theirs)
    said = f"lengths overlap {share:.0%}; the rarer order of lengths is {both:.0%} of prompts"
    if share < _LEAST_OVERLAP or both < _LEAST_BOTH_WAYS:
        raise ValueError(f"{said}: too little to say anything about equal lengths")
    difference = ours - theirs
    scale = float(difference.std()) or 1.0
    lengths = np.tanh(difference / scale)
    groups = material.prompted_groups
    estimate = bootstrap(
        lambda index: fit_at_equal_length(preferences[index], lengths[index]), [groups[i] for i in at]
    )
    least = _least_error(preferences)
    estimate = replace(estimate, standard_error=max(estimate.standard_error, least), missing=missing)
    return Measurement(estimate, message=f"{said}. {remark}" if remark else said)


def _least_error(preferences: NDArray[np.float64]) -> float:
    """Standard error of a win rate without regard to length, two wins and two losses added (Agresti and Coull 1998).

    Where nearly all comparisons end alike, resamples hardly differ and say nothing about their error.
    """
    count = len(preferences) + 4
    rate = (float(preferences.sum()) + 2) / count
    return float(np.sqrt(rate * (1 - rate) / count))


def fit_at_equal_length(preferences: NDArray[np.float64], lengths: NDArray[np.float64]) -> float:
    """Predicted preference at length feature 0, by Newton's method. Raises ValueError where it does not converge."""
    x = np.stack([np.ones_like(lengths), lengths], axis=1)
    weights = np.zeros(2)
    penalty = np.diag([1e-6, _RIDGE])
    for _ in range(50):
        predicted = expit(x @ weights)
        gradient = x.T @ (preferences - predicted) - penalty @ weights
        hessian = (x * (predicted * (1 - predicted))[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, gradient)
        weights = weights + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            return float(expit(weights[0]))
    raise ValueError("the length fit does not converge")


def overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Shared mass of two samples' distributions over ten bins of equal joint frequency, between 0 and 1."""
    edges = np.unique(np.quantile(np.concatenate([first, second]), np.linspace(0, 1, 11)))
    if len(edges) < 2:
        return 1.0
    edges[-1] += 1
    one, other = (np.histogram(sample, edges)[0] / len(sample) for sample in (first, second))
    return float(np.minimum(one, other).sum())


def _both_ways(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Share of prompts with the rarer order of lengths; nearly equal lengths count for both orders."""
    near = _EQUAL * np.maximum(ours, theirs)
    return float(min((ours >= theirs - near).mean(), (ours <= theirs + near).mean()))
