"""``editBurden``: how much less a person would have to edit.

Definition: normalised Levenshtein distance (0 to 1, characters) from the generation to the text the person ended
up with, candidate minus champion, paired by prompt, the champion at the temperature that serves it best.
Unit: share of characters. Direction: below 0 is better. Source: measured against a world with a known truth;
it refuses temperature changes, anti-draft, longer-only and broken candidates (see docs/gate.md).
"""

from __future__ import annotations

import numpy as np
from rapidfuzz.distance import Levenshtein

from alignment_trainer.data.rows import plain
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import mean_by_cluster

__all__ = ["edit_burden", "edit_distances"]


def edit_burden(material: Material, _selector: str) -> Measurement:
    """Mean paired difference in distance to the person's final text, on pairs that are edits; clusters: groups."""
    at = material.edited
    if not at:
        raise ValueError("none of the answered pairs is an edit, so nobody's final text is known")
    finals = [plain(material.pairs[material.prompted[i]].chosen) for i in at]
    candidate = edit_distances([material.candidate[i].text for i in at], finals)
    champion = edit_distances([material.champion_best[i] for i in at], finals)
    groups = material.prompted_groups
    estimate = mean_by_cluster(list(candidate - champion), [groups[i] for i in at])
    return Measurement(
        estimate,
        champion=float(champion.mean()),
        message=f"champion at temperature {material.champion_temperature:g}, its best",
    )


def edit_distances(texts: list[str], finals: list[str]) -> np.ndarray:
    """Normalised distance of each text to its final text, white space at the ends ignored."""
    return np.array(
        [
            Levenshtein.normalized_distance(text.strip(), final.strip())
            for text, final in zip(texts, finals, strict=True)
        ]
    )
