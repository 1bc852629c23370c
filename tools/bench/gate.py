"""Does the gate's arithmetic hold its word? Statistical worlds with a known truth, no models.

``make bench-gate``. Single answers, and groups of the sizes that real edits have (measured on 3,000 edits of 564
documents: a third of the documents has one edit, the largest sixty). Printed: how often a model that is worth no more
than the limit is released, per decision (10,000 worlds a line) and over a year of 52 decisions with the ledger's budget
(400 years); the power to see a win rate of 60 %, how often 95 % intervals hold the truth, and how often the worst of
several cohorts is Failed (4,000 worlds a line). Every rate with its Clopper-Pearson interval. The product's own criteria,
estimators, evidence and gate are called, on drawn observations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Final

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from alignment_api.evidence import Evidence
from alignment_api.gate import decide
from alignment_api.metrics import MetricName
from alignment_api.spec import Criterion, EvaluationSpec, JudgeSpec, JudgeType
from alignment_api.verdict import Result
from alignment_trainer.evaluation.criteria import Alpha, gather_evidence
from alignment_trainer.evaluation.defaults import default_criteria
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import Estimate, bounds, mean_by_cluster, proportion

WEEKLY: Final = 0.05 / 52
_JUDGED = EvaluationSpec(judge=JudgeSpec(type=JudgeType.REWARD_MODEL, uri="file:///judge/"))
EDITS: Final = default_criteria(EvaluationSpec(), edits=True)[0]
WINS: Final = default_criteria(_JUDGED, edits=False)[0]
"""The criteria on which a release rests by default."""
DOCUMENT_SIZES: Final = np.repeat(
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 21, 25, 30, 34, 46, 50, 60],
    [197, 91, 53, 38, 36, 16, 25, 12, 9, 10, 11, 5, 12, 5, 2, 6, 6, 2, 4, 4, 3, 2, 1, 2, 2],
)
"""Edits per document in real documentation histories."""
CORRELATION: Final = 0.1

Draw = Callable[[np.random.Generator, NDArray[np.int64]], NDArray[np.float64]]
"""Observations of groups with these sizes."""


@dataclass(frozen=True)
class World:
    """One kind of world. pairs: held-out pairs; grouped: document sizes instead of single pairs."""

    name: str
    criterion: Criterion
    draw: Draw
    pairs: int
    grouped: bool


def sizes(rng: np.random.Generator, world: World) -> NDArray[np.int64]:
    """Group sizes that add up to the world's pairs."""
    if not world.grouped:
        return np.ones(world.pairs, dtype=np.int64)
    drawn = rng.choice(DOCUMENT_SIZES, world.pairs)
    whole = int(
        np.searchsorted(np.cumsum(drawn), world.pairs)
    )  # groups before the last one, which may be cut
    rest = world.pairs - int(drawn[:whole].sum())
    return np.append(drawn[:whole], rest)


def comparisons(win: float, discordance: float) -> Draw:
    """Judged comparisons with a true win rate; the rest of ``discordance`` are ties. Groups correlate through their own rate."""

    def draw(rng: np.random.Generator, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        p = 0.5 + (win - 0.5) / discordance  # of winning a decided comparison
        level = _levels(rng, p, groups)
        decided = rng.random(groups.sum()) < discordance
        won = (rng.random(groups.sum()) < np.repeat(level, groups)).astype(float)
        return np.where(decided, won, 0.5)

    return draw


def _levels(rng: np.random.Generator, p: float, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    if groups.max() == 1:
        return np.full(len(groups), p)
    scale = (1 - CORRELATION) / CORRELATION
    return rng.beta(scale * p, scale * (1 - p), len(groups))


def burdens(shift: float) -> Draw:
    """Differences in edit burden of two models that are as good, moved by ``shift``: on-policy edits.

    Each model's distance to the final text is small for most drafts and large for a few (gamma), as between a draft and its
    edit; the two share the prompt's difficulty and the group's.
    """

    def draw(rng: np.random.Generator, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        n = int(groups.sum())
        hard = rng.gamma(1.5, 0.08, n)
        own = rng.gamma(1.0, 0.09, (2, n))
        shared = np.repeat(rng.normal(0, 0.04, len(groups)), groups) if groups.max() > 1 else np.zeros(n)
        first, second = np.clip(hard + own, 0, 1)
        return first - second + shared + shift

    return draw


def catastrophes(shift: float) -> Draw:
    """As good in the mean but for ``shift``, and treacherous: a little better for nineteen prompts in twenty, far worse for one."""

    def draw(rng: np.random.Generator, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        n = int(groups.sum())
        return np.where(rng.random(n) < 0.05, 0.38, -0.02) + rng.normal(0, 0.05, n) + shift

    return draw


def estimate(world: World, rng: np.random.Generator) -> Estimate:
    """What the evaluation would measure in one draw of this world."""
    groups = sizes(rng, world)
    labels = [f"g{i}" for i in np.repeat(np.arange(len(groups)), groups)]
    values = list(world.draw(rng, groups))
    if world.criterion.metric is MetricName.WIN_RATE:
        return proportion(values, labels)
    return mean_by_cluster(values, labels)


def released(found: Estimate, criterion: Criterion, alpha: float) -> bool:
    """The gate's word on one measurement."""
    evidence: Evidence = gather_evidence(
        (criterion,), lambda _name, _selector: Measurement(found), Alpha(alpha), comparable=True
    )
    return decide((), evidence).result is Result.PASSED


def rates(world: World, rounds: int, seed: int) -> dict[str, int]:
    """Releases at a single decision's alpha and at the weekly one, which asks for more."""
    rng = np.random.default_rng(seed)
    counts = {"single": 0, "weekly": 0}
    for _ in range(rounds):
        found = estimate(world, rng)
        once = released(found, world.criterion, 0.05)
        counts["single"] += once
        counts["weekly"] += once and released(found, world.criterion, WEEKLY)
    return counts


def years(world: World, rounds: int, seed: int) -> tuple[int, int]:
    """Years (of 52 decisions) with at least one false release, with the ledger's budget and without it."""
    rng = np.random.default_rng(seed)
    with_ledger = without = 0
    for _ in range(rounds):
        weekly = single = False
        for _ in range(52):
            found = estimate(world, rng)
            once = released(found, world.criterion, 0.05)
            single = single or once
            weekly = weekly or (once and released(found, world.criterion, WEEKLY))
        with_ledger += weekly
        without += single
    return with_ledger, without


def coverage(rounds: int, seed: int) -> list[tuple[str, int, float]]:
    """Share of two-sided 95 % intervals that hold the truth, averaged over p, by number of pairs and grouping."""
    rng = np.random.default_rng(seed)
    found = []
    for grouped in (False, True):
        for pairs in (100, 200, 400, 800):
            inside = 0
            for turn in range(rounds):
                p = (0.2, 0.35, 0.5, 0.65, 0.8)[turn % 5]
                world = World("", WINS, comparisons(p, 1.0), pairs, grouped)
                low, high = bounds(estimate(world, rng), 0.025)
                inside += low <= p <= high
            found.append(("groups of real sizes" if grouped else "single pairs", pairs, inside / rounds))
    return found


def failed_cohorts(truths: list[float], rounds: int, seed: int) -> tuple[int, int]:
    """How often the worst of cohorts with these accuracies, 25 pairs each, is below 0.45 at 95 %.

    As ``worstCohortAccuracy`` picks and bounds it, and with the upper end of a cohort that nobody picked.
    """
    rng = np.random.default_rng(seed)
    shared = alone = 0
    for _ in range(rounds):
        drawn = [proportion([float(hit) for hit in rng.random(25) < p], [""] * 25) for p in truths]
        worst = min(drawn, key=lambda found: bounds(found, 0.05)[0])
        shared += bounds(replace(worst, lowest_of=len(truths)), 0.05)[1] < 0.45
        alone += bounds(worst, 0.05)[1] < 0.45
    return shared, alone


def rate(count: int, rounds: int) -> str:
    """Per cent with its exact interval."""
    low, high = proportion_confint(count, rounds, method="beta")
    return f"{100 * count / rounds:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def no_better() -> list[World]:
    """Worlds in which nothing should be released. The truth lies on the limit, where a release is likeliest, but for two."""
    at, single, groups = EDITS.limit, "single", "groups"
    wins, tied = comparisons(0.5, 1.0), comparisons(0.5, 0.3)

    def world(what: str, criterion: Criterion, draw: Draw, pairs: int, kind: str) -> World:
        return World(f"{what}, {pairs} pairs, {kind}", criterion, draw, pairs, kind == groups)

    return list(
        starmap(
            world,
            (
                ("win rate ½, no ties", WINS, wins, 100, single),
                ("win rate ½, no ties", WINS, wins, 400, single),
                ("win rate ½, no ties", WINS, wins, 400, groups),
                ("win rate ½, 70 % ties", WINS, tied, 100, single),
                ("win rate ½, 70 % ties", WINS, tied, 400, single),
                ("win rate ½, 70 % ties", WINS, tied, 400, groups),
                ("edit burden at its limit, on-policy edits", EDITS, burdens(at), 100, single),
                ("edit burden at its limit, on-policy edits", EDITS, burdens(at), 400, single),
                ("edit burden at its limit, on-policy edits", EDITS, burdens(at), 400, groups),
                ("edit burden at its limit, rare catastrophes", EDITS, catastrophes(at), 100, single),
                ("edit burden at its limit, rare catastrophes", EDITS, catastrophes(at), 400, single),
                ("edit burden 0, on-policy edits", EDITS, burdens(0.0), 400, single),
                ("edit burden 0, rare catastrophes", EDITS, catastrophes(0.0), 100, single),
            ),
        )
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--null-rounds", type=int, default=10_000, help="worlds a line where nothing is better"
    )
    parser.add_argument("--rounds", type=int, default=4_000, help="worlds a line elsewhere")
    parser.add_argument("--years", type=int, default=400)
    options = parser.parse_args()
    null = no_better()
    print(
        "| worth no more than the limit | released at α 0.05 | released at α 0.05/52 |\n|---|---|---|",
        flush=True,
    )
    for number, world in enumerate(null):
        counts = rates(world, options.null_rounds, number)
        print(
            f"| {world.name} | {rate(counts['single'], options.null_rounds)} | {rate(counts['weekly'], options.null_rounds)} |",
            flush=True,
        )
    print(
        "\n| 52 decisions, worth no more than the limit | a false release with the ledger | without it |\n|---|---|---|"
    )
    for number, world in enumerate([null[1], null[7], null[8]]):
        kept, free = years(world, options.years, 100 + number)
        print(f"| {world.name} | {rate(kept, options.years)} | {rate(free, options.years)} |", flush=True)
    print("\n| true win rate 60 %, 400 pairs | power at α 0.05 | power at α 0.05/52 |\n|---|---|---|")
    powers = [
        World(
            f"discordance {q:g}, {'groups' if grouped else 'single'}",
            WINS,
            comparisons(0.6, q),
            400,
            grouped,
        )
        for q in (1.0, 0.5, 0.3)
        for grouped in (False, True)
    ]
    for number, world in enumerate(powers):
        counts = rates(world, options.rounds, 200 + number)
        print(
            f"| {world.name} | {rate(counts['single'], options.rounds)} | {rate(counts['weekly'], options.rounds)} |",
            flush=True,
        )
    print("\n| 95 % intervals, averaged over p | pairs | hold the truth |\n|---|---|---|")
    covered = coverage(options.rounds, 300)
    for kind, pairs, share in covered:
        print(f"| {kind} | {pairs} | {rate(round(share * options.rounds), options.rounds)} |", flush=True)
    print(f"| all | | {100 * sum(share for *_, share in covered) / len(covered):.2f} % |")
    print("\n| cohorts | worst one Failed | with the upper end of one cohort |\n|---|---|---|")
    worlds = {f"{number}, all at the limit": [0.45] * number for number in (1, 10, 30)}
    worlds |= {f"{number}, one at 0.1, others at 0.6": [0.1] + [0.6] * (number - 1) for number in (10, 30)}
    for number, (name, truths) in enumerate(worlds.items()):
        kept, free = failed_cohorts(truths, options.rounds, 400 + number)
        print(f"| {name} | {rate(kept, options.rounds)} | {rate(free, options.rounds)} |", flush=True)


if __name__ == "__main__":
    main()
