"""The verdict in a sentence, and what would change it. Pure words from evidence."""

from __future__ import annotations

from alignment_api.evidence import CriterionEvidence
from alignment_api.gate import NOTHING_CARRIES, carries
from alignment_api.spec import CriterionMode
from alignment_api.verdict import CriterionVerdict, Result, Verdict

__all__ = ["advise", "summarise"]


def summarise(verdict: Verdict, evidence: list[CriterionEvidence]) -> str:
    """The verdict with the criteria that decided it."""
    blocking = [v for v in verdict.criteria if v.mode is CriterionMode.BLOCKING]
    deciding = [v for v in blocking if v.result is verdict.result]
    found = {e.criterion.name: e for e in evidence}
    named = "; ".join(_numbers(v, found[v.name]) for v in deciding[:3]) or NOTHING_CARRIES
    if verdict.result is Result.PASSED:
        first = _numbers(blocking[0], found[blocking[0].name])
        return f"The candidate may be released: all {len(blocking)} blocking criteria are met, first {first}."
    if verdict.result is Result.FAILED:
        return f"The candidate must not be released: {named}."
    return f"The evidence does not carry a release: {named}."


def advise(verdict: Verdict, evidence: list[CriterionEvidence], *, holdout: int, answered: int) -> list[str]:
    """One sentence for each blocking criterion that did not pass; for a passed verdict, how near it was.

    holdout: held-out pairs; answered: those whose prompts were answered.
    """
    found = {e.criterion.name: e for e in evidence}
    blocking = [v for v in verdict.criteria if v.mode is CriterionMode.BLOCKING]
    open_ones = [v for v in blocking if v.result is not Result.PASSED]
    if not any(carries(e.criterion) for e in evidence):
        more = [_for(v, found[v.name], holdout, answered) for v in open_ones]
        return [f"{NOTHING_CARRIES[0].upper()}{NOTHING_CARRIES[1:]}.", *more]
    if not open_ones:
        nearest = min(blocking, key=lambda v: _room(v, found[v.name]))
        room = f"{_room_words(nearest, found[nearest.name])} on {nearest.name} ({nearest.metric})"
        return [
            f"A change of {room} would have changed the verdict: it is the criterion nearest to its limit."
        ]
    return [_for(v, found[v.name], holdout, answered) for v in open_ones]


def _for(verdict: CriterionVerdict, evidence: CriterionEvidence, holdout: int, answered: int) -> str:
    name = f"{verdict.name} ({verdict.metric}{f' on {verdict.selector}' if verdict.selector else ''})"
    if evidence.estimate is None:
        return f"{name}: there is no estimate; {evidence.message or 'no reason was given'}."
    if verdict.result is Result.FAILED:
        return (
            f"{name}: more data will not help; the metric is {evidence.estimate:.3g} and beyond its limit with confidence. "
            "Change the training or the data, or learn that the limit is wrong and say so in a new run."
        )
    if evidence.needed_pairs is not None and evidence.needed_pairs > evidence.n:
        more = evidence.needed_pairs - evidence.n
        sentence = (
            f"{name}: about {more} more held-out pairs ({evidence.needed_pairs} in all) find an effect "
            f"{evidence.criterion.minimum_effect:g} beyond the limit in 80 of 100 evaluations"
        )
        if evidence.n == answered < holdout:
            sentence += f"; {holdout - answered} are there already: raise evaluation.generation.prompts"
        return sentence + "."
    if evidence.criterion.minimum_effect is not None:
        return (
            f"{name}: {evidence.n} observations were enough for {evidence.criterion.minimum_effect:g} beyond the limit; the "
            "candidate's own is probably smaller. Better training helps more than more data."
        )
    return f"{name}: the interval still holds the limit {evidence.criterion.limit:g}; more held-out pairs narrow it."


def _numbers(verdict: CriterionVerdict, evidence: CriterionEvidence) -> str:
    metric = f"{verdict.metric}({verdict.selector})" if verdict.selector else str(verdict.metric)
    if evidence.estimate is None:
        return f"{metric} is unavailable ({evidence.message or 'no reason was given'})"
    side = "above" if evidence.criterion.upwards else "below"
    return (
        f"{metric} {evidence.estimate:.3g} [{evidence.low:.3g}, {evidence.high:.3g}], to lie {side} "
        f"{evidence.criterion.limit:g}"
    )


def _room(verdict: CriterionVerdict, evidence: CriterionEvidence) -> float:
    """Distance of the deciding bound from the limit, relative to the interval's width."""
    if verdict.bound is None or evidence.low is None or evidence.high is None:
        return 0.0
    return abs(verdict.bound - evidence.criterion.limit) / max(evidence.high - evidence.low, 1e-12)


def _room_words(verdict: CriterionVerdict, evidence: CriterionEvidence) -> str:
    assert verdict.bound is not None  # noqa: S101  a passed criterion has one
    return f"{abs(verdict.bound - evidence.criterion.limit):.2g}"
