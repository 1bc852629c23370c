"""What a judge is asked and what it answers. A judge is one file beside this one and one entry in ``judges``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from alignment_trainer.data.rows import Text
from alignment_trainer.errors import TemporaryError

__all__ = [
    "MISSING_SHARE",
    "Comparison",
    "Judge",
    "Judgement",
    "Outcome",
    "judgements",
    "require_answers",
]

MISSING_SHARE: Final = 0.1
"""More prompts than this without a judgement make win rates unavailable: what is missing is seldom missing at random."""


class Outcome(StrEnum):
    """What became of one comparison."""

    JUDGED = "judged"
    ABSTAINED = "abstained"
    """The judge answered, but not with a judgement."""
    FAILED = "failed"
    """It could not be answered: the endpoint refused the question, or a score is no number."""
    UNREACHED = "unreached"
    """Nobody answered, after all retries: the endpoint was away, or kept failing."""
    CAPPED = "capped"
    """It was not asked: maximumRequests or maximumTokens were reached."""


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt."""

    prompt: Text
    candidate: str
    champion: str


@dataclass(frozen=True)
class Judgement:
    """preference: for the candidate, 1, ½ (a tie, or the orders disagree) or 0; None unless the outcome is ``judged``."""

    outcome: Outcome
    preference: float | None = None


class Judge(Protocol):
    """Compares answers. Built by ``open_judge``; used once per evaluation."""

    def check(self, prompts: Sequence[Text]) -> None:
        """Fail early, before any GPU time is spent: RequestError for what the person must change, TemporaryError else.

        prompts: of the holdout; some judges read only some forms.
        """
        ...

    def compare(self, comparisons: Sequence[Comparison], between: Callable[[int], None]) -> list[Judgement]:
        """One judgement per comparison, in order. between: called with the number done; may raise to stop."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the report: type, model, digests of model and prompt, requests and tokens used."""
        ...


def judgements(
    judge: Judge, comparisons: Sequence[Comparison], between: Callable[[int], None]
) -> list[Judgement]:
    """One judgement per comparison, in order. Equal answers are a tie, whoever judges: nobody is asked about them."""
    differing = [n for n, c in enumerate(comparisons) if c.candidate != c.champion]
    told = [Judgement(Outcome.JUDGED, 0.5)] * len(comparisons)
    asked = judge.compare([comparisons[n] for n in differing], between)
    for number, judgement in zip(differing, asked, strict=True):
        told[number] = judgement
    return told


def require_answers(told: Sequence[Judgement], *, last_attempt: bool) -> None:
    """Raise TemporaryError where a judge was away for too many prompts: the answers it gave are kept, so a new attempt is cheap.

    last_attempt: there is no other; the metric is then unavailable, and its criterion Inconclusive.
    """
    unreached = sum(judgement.outcome is Outcome.UNREACHED for judgement in told)
    if unreached > MISSING_SHARE * len(told) and not last_attempt:
        raise TemporaryError(
            f"The judge stopped answering: {unreached} of {len(told)} prompts have no judgement. The next attempt asks for "
            "these again.",
            reason="JudgeUnavailable",
        )
