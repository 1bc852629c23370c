"""``winRate``: whose text does a judge prefer?

Definition: mean preference of a judge for the candidate's generation over the champion's, by prompt: 1 a win, ½ a tie or
orders that disagree, 0 a loss. Prompts without a judgement are left out of the estimate, and in the bounds they count
against it: a judge is often silent about the worst texts. Unit: ratio. Direction: above one half is better. Source:
position bias, arXiv 2406.07791; ties as in AlpacaEval, arXiv 2404.04475; bounds under missing data, Manski 1989.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from alignment_trainer.evaluation.judges.base import MISSING_SHARE, Outcome
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import proportion

__all__ = ["judged", "win_rate"]


def win_rate(material: Material, _selector: str) -> Measurement:
    """Mean preference over the judged prompts; clusters: groups."""
    at, missing, remark = judged(material)
    assert material.judgements is not None  # noqa: S101  judged() saw to it
    preferences = [float(material.judgements[i].preference or 0.0) for i in at]
    groups = material.prompted_groups
    estimate = proportion(preferences, [groups[i] for i in at])
    return Measurement(replace(estimate, missing=missing), champion=None, message=remark)


def judged(material: Material) -> tuple[list[int], int, str | None]:
    """Positions of the judged prompts, how many others there are, and a remark on these.

    Raises ValueError where too many are missing.
    """
    if material.judgements is None:
        raise ValueError("no judge is configured (evaluation.judge)")
    counts = Counter(judgement.outcome for judgement in material.judgements)
    total = len(material.judgements)
    missing = total - counts[Outcome.JUDGED]
    reasons = ", ".join(
        f"{counts[outcome]} {outcome}"
        for outcome in Outcome
        if outcome is not Outcome.JUDGED and counts[outcome]
    )
    if missing > MISSING_SHARE * total:
        raise ValueError(
            f"the judge gave no judgement for {missing} of {total} prompts ({reasons}), more than a tenth"
        )
    at = [i for i, judgement in enumerate(material.judgements) if judgement.outcome is Outcome.JUDGED]
    remark = f"{missing} of {total} prompts have no judgement ({reasons}) and count against either side in the bounds"
    return at, missing, remark if missing else None
