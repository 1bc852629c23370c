"""``preferenceLift``: did the model learn the people's edits, rather than just any edit?

Definition: P[Δ(chosen) > Δ(placebo)] − ½, Δ = log π_candidate − log π_champion summed over answer tokens, ties half; the
placebo is an edit of the same rejected text to no purpose, of the same kind and as likely to the champion. Unit:
probability above one half. Direction: above 0 is better. Pairs that are edits only.
Source: ours; a change of temperature scores 1.00 preference accuracy and no lift (docs/gate.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics.preference_accuracy import wins
from alignment_trainer.evaluation.statistics import rate_difference

__all__ = ["preference_lift"]

_LEAST = 20
_GAP_NATS = 1.0
_GAP_SHARE = 0.02


def preference_lift(material: Material, _selector: str) -> Measurement:
    """Mean over the pairs that have a placebo; clusters: groups. The message gives the gap."""
    placebos = material.placebos
    if placebos is None or len(placebos.indices) < _LEAST:
        found = 0 if placebos is None else len(placebos.indices)
        raise ValueError(f"{found} edited pairs have a matched placebo, {_LEAST} are needed")
    at = placebos.indices
    champion = material.champion_logps.chosen[at]
    said = (
        f"placebos differ by {placebos.mean_gap:+.2f} nats in the mean, {placebos.unmatched} pairs unmatched"
    )
    if abs(placebos.mean_gap) > max(_GAP_NATS, _GAP_SHARE * float(np.abs(champion).mean())):
        raise ValueError(f"{said}: too much to be a control")
    won = wins(material.candidate_logps.chosen[at] - champion, placebos.candidate - placebos.champion)
    groups = material.groups
    # Agresti-Min is made for -1, 0 and 1; a lift is half of that.
    double = rate_difference(list(2 * won - 1), [groups[i] for i in at])
    estimate = replace(double, value=double.value / 2, standard_error=double.standard_error / 2)
    return Measurement(estimate, champion=0.0, message=said)
