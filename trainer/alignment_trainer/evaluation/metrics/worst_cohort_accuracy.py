"""``worstCohortAccuracy``: is there a cohort whose preferences the candidate moved away from?

Definition: preference accuracy of the cohort for which least can be promised (lowest lower end of its interval), among
cohorts of at least 20 pairs. Unit: ratio. Direction: higher is better. When this cohort is above a limit with
confidence, so is every other one; the minimum of several leans low, which is the cautious side for passing. For failing it
is not, so the upper end of the interval is that of the lowest of so many (alpha shared among them): of thirty cohorts at the
limit one always looks bad, and nobody can overrule Failed. Where no cohort is large enough, all pairs are one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics.preference_accuracy import preferred
from alignment_trainer.evaluation.statistics import bounds, proportion

__all__ = ["worst_cohort_accuracy"]

_LEAST = 20


def worst_cohort_accuracy(material: Material, _selector: str) -> Measurement:
    """Preference accuracy of the worst cohort; clusters: groups. The message names the cohort."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(material.pairs):
        if pair.cohort:
            members[pair.cohort].append(index)
    right, groups = preferred(material), material.groups
    estimates = {
        cohort: proportion([float(right[i]) for i in indices], [groups[i] for i in indices])
        for cohort, indices in members.items()
        if len(indices) >= _LEAST and len({groups[i] for i in indices}) > 1
    }
    if not estimates:
        everyone = proportion([float(value) for value in right], list(groups))
        return Measurement(
            everyone, message=f"no cohort has {_LEAST} held-out pairs in two groups: all are one"
        )
    worst = min(estimates, key=lambda cohort: bounds(estimates[cohort], 0.05)[0])
    picked = replace(estimates[worst], lowest_of=len(estimates))
    return Measurement(picked, message=f"cohort {worst}, of {len(estimates)}")
