"""Names of the metrics that a gate can compare: unit, better direction and family, in one table.

The definitions live with their computation (trainer, ``evaluation/metrics``); a metric without a row here
cannot be named in a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["METRICS", "Better", "MetricFamily", "MetricInfo", "MetricName"]


class MetricName(StrEnum):
    """Metrics by the name used in runs, reports and dashboards."""

    EDIT_BURDEN = "editBurden"
    WIN_RATE = "winRate"
    WIN_RATE_LENGTH_CONTROLLED = "winRateLengthControlled"
    PREFERENCE_ACCURACY = "preferenceAccuracy"
    PREFERENCE_LIFT = "preferenceLift"
    RANKING_ACCURACY = "rankingAccuracy"
    LENGTH_RATIO = "lengthRatio"
    KL_PER_TOKEN = "klPerToken"  # noqa: S105  a metric's name
    CHOSEN_LOG_RATIO = "chosenLogRatio"
    DEGENERATE_RATE = "degenerateRate"
    FLUENCY_GAP = "fluencyGap"
    ANCHOR_LOSS_DELTA = "anchorLossDelta"
    WORST_COHORT_ACCURACY = "worstCohortAccuracy"
    REFUSAL_RATE = "refusalRate"


class Better(StrEnum):
    """Which way is better."""

    HIGHER = "Higher"
    LOWER = "Lower"
    NEITHER = "Neither"


class MetricFamily(StrEnum):
    """What a metric can show."""

    SUPERIORITY = "Superiority"
    """From generations: may carry a release."""
    DIRECTION = "Direction"
    """From log-probabilities: shows direction only."""
    COUNTER = "Counter"
    """What must not get worse."""


@dataclass(frozen=True)
class MetricInfo:
    """One row of the table.

    sets: list of spec.evaluation of which a criterion must name an item; empty for most. judged: measured by a judge only.
    of_a_copy: what an exact copy of the champion is worth, for metrics that can carry a release.
    """

    unit: str
    better: Better
    family: MetricFamily
    sentence: str
    sets: str = ""
    judged: bool = False
    of_a_copy: float | None = None

    @property
    def selected(self) -> bool:
        """True where the criterion must name a set."""
        return bool(self.sets)


METRICS: Final[dict[MetricName, MetricInfo]] = {
    MetricName.EDIT_BURDEN: MetricInfo(
        "normalised edit distance, difference to the champion (-1 to 1)",
        Better.LOWER,
        MetricFamily.SUPERIORITY,
        "How much less a person would have to edit: distance from the candidate's generation to the text the person ended up with, minus the champion's.",
        of_a_copy=0.0,
    ),
    MetricName.WIN_RATE: MetricInfo(
        "ratio (0 to 1)",
        Better.HIGHER,
        MetricFamily.SUPERIORITY,
        "Share of holdout prompts where a judge prefers the candidate's generation to the champion's, both orders asked, ties half.",
        judged=True,
        of_a_copy=0.5,
    ),
    MetricName.WIN_RATE_LENGTH_CONTROLLED: MetricInfo(
        "ratio (0 to 1)",
        Better.HIGHER,
        MetricFamily.SUPERIORITY,
        "Win rate at equal length, unavailable where the two length distributions hardly overlap.",
        judged=True,
        of_a_copy=0.5,
    ),
    MetricName.PREFERENCE_ACCURACY: MetricInfo(
        "ratio (0 to 1)",
        Better.HIGHER,
        MetricFamily.DIRECTION,
        "Share of held-out pairs whose chosen side gained more log-probability over the champion than the rejected side, ties half.",
        of_a_copy=0.5,
    ),
    MetricName.PREFERENCE_LIFT: MetricInfo(
        "probability above one half (-0.5 to 0.5)",
        Better.HIGHER,
        MetricFamily.DIRECTION,
        "How much more often the chosen side gained than a placebo edit of the same text that the champion finds as likely.",
        of_a_copy=0.0,
    ),
    MetricName.RANKING_ACCURACY: MetricInfo(
        "ratio, difference to the champion (-1 to 1)",
        Better.HIGHER,
        MetricFamily.DIRECTION,
        "Share of held-out pairs that the candidate alone ranks right, minus the champion's share.",
        of_a_copy=0.0,
    ),
    MetricName.LENGTH_RATIO: MetricInfo(
        "ratio",
        Better.NEITHER,
        MetricFamily.COUNTER,
        "Mean length of the candidate's generations over the champion's.",
    ),
    MetricName.KL_PER_TOKEN: MetricInfo(
        "nats per token",
        Better.LOWER,
        MetricFamily.COUNTER,
        "Divergence from the champion on the candidate's own samples.",
    ),
    MetricName.CHOSEN_LOG_RATIO: MetricInfo(
        "nats per token",
        Better.HIGHER,
        MetricFamily.COUNTER,
        "Mean log-ratio of chosen answers to the champion; strongly negative means likelihood displacement.",
    ),
    MetricName.DEGENERATE_RATE: MetricInfo(
        "ratio, difference to the champion (-1 to 1)",
        Better.LOWER,
        MetricFamily.COUNTER,
        "Share of generations that are empty, looping, never ending, constant or of unknown words, minus the champion's.",
    ),
    MetricName.FLUENCY_GAP: MetricInfo(
        "nats per token",
        Better.LOWER,
        MetricFamily.COUNTER,
        "The champion's loss on the candidate's generations minus its loss on the people's final texts.",
    ),
    MetricName.ANCHOR_LOSS_DELTA: MetricInfo(
        "nats per token",
        Better.LOWER,
        MetricFamily.COUNTER,
        "Loss on an anchor set, candidate minus champion.",
        sets="anchors",
    ),
    MetricName.WORST_COHORT_ACCURACY: MetricInfo(
        "ratio (0 to 1)",
        Better.HIGHER,
        MetricFamily.COUNTER,
        "Preference accuracy of the cohort for which least can be promised.",
    ),
    MetricName.REFUSAL_RATE: MetricInfo(
        "ratio, difference to the champion (-1 to 1)",
        Better.HIGHER,
        MetricFamily.COUNTER,
        "Share of a prompt set that is refused, minus the champion's.",
        sets="refusals",
    ),
}
