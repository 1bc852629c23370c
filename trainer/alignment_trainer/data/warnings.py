"""What to know about the data before anything is trained on it, in sentences for the status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from alignment_api.status import Funnel

__all__ = ["data_warnings"]

_LENGTH_SHARE: Final = 0.65
"""From here on length is what a model learns first; people's edits lie between 0.45 and 0.63."""
_ENOUGH_PAIRS: Final = 100
_LEAK_SHARE: Final = 0.1


def data_warnings(funnel: Funnel, skewed: int) -> tuple[str, ...]:
    """Sentences; none when there is nothing to say. skewed: links of chains that are dated backwards."""
    found = [*_people(funnel), *_texts(funnel)]
    if skewed:
        edits, they = ("edits are", "they go") if skewed > 1 else ("edit is", "it goes")
        found.append(
            f"{skewed} {edits} dated before the edit that {they} on from: the clocks of what logged them differ"
        )
    return tuple(found)


def _people(funnel: Funnel) -> Iterator[str]:
    for who, agreement in (("cohorts", funnel.cohort_agreement), ("actors", funnel.actor_agreement)):
        if agreement is not None and agreement.high < 0.5:
            yield (
                f"{who} contradict each other: of {agreement.n} texts that several {who} judged, two of them agree on "
                f"{agreement.estimate:.0%} [{agreement.low:.0%}, {agreement.high:.0%}]; one model cannot please both"
            )
        elif agreement is not None and agreement.low < 0.5 and agreement.n >= 20:
            yield (
                f"{who} hardly agree: on {agreement.estimate:.0%} [{agreement.low:.0%}, {agreement.high:.0%}] of the "
                f"{agreement.n} texts that several {who} judged"
            )


def _texts(funnel: Funnel) -> Iterator[str]:
    longer = funnel.chosen_longer
    if (
        longer is not None
        and longer.n >= _ENOUGH_PAIRS
        and (longer.low > _LENGTH_SHARE or longer.high < 1 - _LENGTH_SHARE)
    ):
        word = "longer" if longer.estimate > 0.5 else "shorter"
        yield (
            f"in {max(longer.estimate, 1 - longer.estimate):.0%} of pairs the chosen side is {word}: the model will "
            "learn length as well"
        )
    if funnel.neutralised:
        yield f"{funnel.neutralised} rows spelled out special tokens of the tokenizer; they were broken up"
    if funnel.redacted:
        found = ", ".join(f"{count} {name}" for name, count in funnel.redacted.items() if count)
        if found:
            yield f"identifiers found: {found}; patterns find the obvious ones only and are not de-identification"
    leaked = sum(count for reason, count in funnel.dropped.items() if reason.startswith("leak"))
    if leaked > _LEAK_SHARE * max(funnel.train, 1):
        yield (
            f"{leaked} rows were kept from the train side because they tell about the holdout: give rows that belong "
            "together the same group"
        )
