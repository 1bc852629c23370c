"""What a judge is asked and what it answers. A judge is one file beside this one and one entry in ``judges``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from alignment_trainer.data.rows import Text

__all__ = ["Comparison", "Judge", "Judgement", "Outcome", "judgements"]


class Outcome(StrEnum):
    """What became of one comparison."""

    JUDGED = "judged"
    ABSTAINED = "abstained"
    """The judge answered, but not with a judgement."""
    FAILED = "failed"
    """There was no answer, after all retries."""
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

    def check(self) -> None:
        """Fail early, before any GPU time is spent: RequestError for what the person must change, TemporaryError else."""
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
