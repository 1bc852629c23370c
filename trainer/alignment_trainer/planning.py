"""How large a holdout must be, and what a given one can show.

Called by prepare (which warns before any GPU is used), by ``align gate plan`` and ``align run --plan``. evaluate plans
again with the spread that it measured.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from alignment_api.gate import carries
from alignment_api.metrics import METRICS, MetricFamily, MetricName
from alignment_api.spec import AlignmentRunSpec, BudgetMode, Criterion, ErrorBudget, EvaluationSpec, JudgeType
from alignment_trainer.evaluation.defaults import (
    NOT_BETTER,
    asks_for_better,
    default_criteria,
    why_nothing_carries,
)
from alignment_trainer.evaluation.power import ASSUMED_CORRELATION, needed, passing, reach
from alignment_trainer.evaluation.prompts import PLACEBO_PAIRS, answered_edits, rests_on_edits

__all__ = [
    "DEVIATIONS",
    "Holdout",
    "Plan",
    "Worth",
    "beyond_limit",
    "decision_alpha",
    "plan_gate",
    "plan_run",
]

DEVIATIONS: Final[dict[MetricName, float]] = {
    MetricName.EDIT_BURDEN: 0.15,
    MetricName.WIN_RATE: 0.5,
    MetricName.WIN_RATE_LENGTH_CONTROLLED: 0.55,
    MetricName.PREFERENCE_ACCURACY: 0.5,
    MetricName.PREFERENCE_LIFT: 0.5,
    MetricName.RANKING_ACCURACY: 0.55,
}
"""Standard deviation of one observation, to plan with: of edit burden as measured on simulated clinical notes, of win
rates and accuracies the largest there is (near one half, without ties). docs/gate.md has the measurements."""
_WHOLE_RANGE: Final = 1.0
"""No metric that can carry a release lies further than this from a limit that makes sense."""


@dataclass(frozen=True)
class Plan:
    """What one criterion can show.

    pairs: observations it will have; held_out: as many it could have. independent: as many independent ones they are
    worth; groups: that all held-out pairs come from. passes_at: smallest observed distance from the limit that passes. shows: smallest
    true distance that passes with 80 % power. needed: pairs that show ``minimum_effect``; None where the criterion states
    none.
    """

    criterion: Criterion
    alpha: float
    pairs: int
    held_out: int
    independent: float
    groups: int
    passes_at: float
    shows: float
    needed: int | None

    @property
    def change(self) -> float:
        """Smallest true change, counted from a copy of the champion, that passes with 80 % power; 0 where a copy would."""
        return max(0.0, self.shows - beyond_limit(self.criterion, 0.0))

    @property
    def too_small(self) -> bool:
        """True when the stated effect would be missed more often than planned."""
        return self.needed is not None and self.needed > self.pairs

    @property
    def impossible(self) -> bool:
        """True when no value of the metric would pass: so wide is an interval from so few groups."""
        return self.passes_at >= _WHOLE_RANGE


@dataclass(frozen=True)
class Holdout:
    """What is held out. sizes: pairs in each group. edits: pairs that are edits. evaluation: None means that every metric
    sees every pair, for planning before there are any.
    """

    sizes: Collection[int]
    edits: int = 0
    evaluation: EvaluationSpec | None = None

    def observations(self, metric: MetricName) -> tuple[int, int]:
        """As many as this metric will have, and as many as it could have if every prompt were answered."""
        pairs = sum(self.sizes)
        if self.evaluation is None:
            most = min(pairs, PLACEBO_PAIRS) if metric is MetricName.PREFERENCE_LIFT else pairs
            return most, most
        if metric is MetricName.EDIT_BURDEN:
            return answered_edits(self.evaluation, self.edits, pairs), self.edits
        if METRICS[metric].family is MetricFamily.SUPERIORITY:
            return min(pairs, self.evaluation.generation.prompts), pairs
        if metric is MetricName.PREFERENCE_LIFT:
            return min(self.edits, PLACEBO_PAIRS), min(self.edits, PLACEBO_PAIRS)
        others = pairs - self.edits or pairs  # as Material.told_by_likelihood has it
        return others, others


@dataclass(frozen=True)
class Worth:
    """What pairs of groups of certain sizes are worth, by the pair.

    independent: observations (1 without groups). degrees: of freedom, and one for the mean.
    """

    independent: float
    degrees: float

    @classmethod
    def of(cls, sizes: Collection[int], correlation: float = ASSUMED_CORRELATION) -> Worth:
        """Of groups of these sizes, not empty: a holdout of one author is worth few pairs.

        n over the design effect 1 + (m - 1)·ρ, m the mean size of the group that a random pair is in (Kish 1965); degrees as
        ``statistics`` has them (Satterthwaite; Imbens and Kolesár 2016).
        """
        total = sum(sizes)
        weighted = sum(size * size for size in sizes) / total
        variances = [size * (1 + (size - 1) * correlation) for size in sizes]
        groups = sum(variances) ** 2 / sum(variance * variance for variance in variances)
        return cls(1 / (1 + (weighted - 1) * correlation), groups / total)

    def degrees_of(self, pairs: int) -> float:
        """Degrees of freedom of the mean of so many pairs."""
        return max(1.0, self.degrees * pairs - 1)

    def passes_at(self, pairs: int, alpha: float, deviation: float) -> float:
        """Smallest observed distance from the limit that passes at one-sided ``alpha``."""
        return passing(alpha, self.degrees_of(pairs)) * self._error(pairs, deviation)

    def shows(self, pairs: int, alpha: float, deviation: float) -> float:
        """Smallest true distance from the limit that passes with 80 % power at one-sided ``alpha``.

        Below twenty groups the correction of means for skewness takes some of that power: with six about 60 % are left.
        """
        return reach(alpha, self.degrees_of(pairs)) * self._error(pairs, deviation)

    def needed(self, effect: float, alpha: float, deviation: float) -> int:
        """Pairs, from as many more groups, that show ``effect`` with 80 % power at one-sided ``alpha``."""
        return needed(deviation / math.sqrt(self.independent), effect, alpha, self.degrees_of)

    def _error(self, pairs: int, deviation: float) -> float:
        return deviation / math.sqrt(pairs * self.independent)


def beyond_limit(criterion: Criterion, change: float) -> float:
    """How far beyond its limit a criterion's metric lies after a change for the better, counted from a copy of the champion.

    Negative where the limit asks for more than that.
    """
    copy = METRICS[criterion.metric].of_a_copy or 0.0
    return change + (copy - criterion.limit if criterion.upwards else criterion.limit - copy)


def decision_alpha(criterion: Criterion, budget: ErrorBudget) -> float:
    """Error of one decision by this criterion: its own, or the year's budget in equal shares where that is less."""
    own = 1 - criterion.confidence
    if not carries(criterion) or budget.mode is BudgetMode.UNLIMITED:
        return own
    return min(own, budget.per_year / budget.decisions_per_year)


def plan_gate(criteria: Sequence[Criterion], budget: ErrorBudget, holdout: Holdout) -> list[Plan]:
    """Plans of the criteria on which a release rests; none for those that will have no observations."""
    plans = []
    for criterion in criteria:
        used, held_out = holdout.observations(criterion.metric)
        if not carries(criterion) or criterion.metric not in DEVIATIONS or not used:
            continue
        worth = Worth.of(holdout.sizes)
        alpha, deviation = decision_alpha(criterion, budget), DEVIATIONS[criterion.metric]
        effect = criterion.minimum_effect
        plans.append(
            Plan(
                criterion,
                alpha,
                used,
                held_out,
                used * worth.independent,
                len(holdout.sizes),
                worth.passes_at(used, alpha, deviation),
                worth.shows(used, alpha, deviation),
                worth.needed(effect, alpha, deviation) if effect is not None else None,
            )
        )
    return plans


def plan_run(
    spec: AlignmentRunSpec, sizes: Collection[int], edits: int
) -> tuple[list[Plan], tuple[str, ...]]:
    """Plans of a run's gate, and sentences about what this holdout cannot show; none when all is well.

    sizes: pairs in each held-out group. edits: held-out pairs that are edits.
    """
    pairs = sum(sizes)
    rests = rests_on_edits(edits, pairs)
    criteria = spec.gate.criteria or default_criteria(spec.evaluation, edits=rests)
    holdout = Holdout(sizes, edits, spec.evaluation)
    plans = plan_gate(criteria, spec.gate.error_budget, holdout)
    comparable = rests or spec.evaluation.judge.type is not JudgeType.NONE
    nothing = why_nothing_carries(criteria, comparable=comparable)
    found = [] if nothing is None else [f"this gate can release nothing: {nothing}"]
    found += [] if asks_for_better(criteria) else [NOT_BETTER]
    found += [
        f"criterion {criterion.name} will be Inconclusive: none of the {pairs} held-out pairs is one that {criterion.metric} is about"
        for criterion in criteria
        if carries(criterion) and pairs and not holdout.observations(criterion.metric)[0]
    ]
    found += [_impossible(plan) for plan in plans if plan.impossible]
    found += [_too_small(plan) for plan in plans if plan.too_small and not plan.impossible]
    return plans, tuple(found)


def _impossible(plan: Plan) -> str:
    return (
        f"criterion {plan.criterion.name} cannot pass: {plan.pairs} held-out pairs of {plan.groups} groups leave an interval of "
        f"{plan.criterion.metric} wider than all its values at alpha {plan.alpha:.2g}. Hold out pairs of more groups"
    )


def _too_small(plan: Plan) -> str:
    some = "edits" if plan.criterion.metric is MetricName.EDIT_BURDEN else "pairs"
    worth = (
        f" of {plan.groups} groups, worth about {plan.independent:.0f} independent ones"
        if plan.independent < plan.pairs - 0.5
        else ""
    )
    more = (
        f", or raise evaluation.generation.prompts: {plan.held_out} {some} are held out"
        if plan.pairs < plan.held_out
        else ""
    )
    return (
        f"criterion {plan.criterion.name} decides on {plan.pairs} held-out {some}{worth}: enough to show a change of "
        f"{plan.criterion.metric} of {plan.change:.3f} with 80 % power at alpha {plan.alpha:.2g}; its minimumEffect of "
        f"{plan.criterion.minimum_effect:g} beyond the limit of {plan.criterion.limit:g} needs about {plan.needed}. Expect "
        f"Inconclusive unless the effect is larger{more}"
    )
