"""``degenerateRate``: how often is the generated text no answer at all?

Definition: share of generations that are empty, never end, loop, are the same text for many prompts, or hold broken
language (more than a tenth of the words known neither from the data nor from the champion's texts); candidate minus
champion, paired. Unit: difference of ratios. Direction: lower is better.
Source: a constant text that attacks the judge wins most comparisons in published data (docs/gate.md).
"""

from __future__ import annotations

import re
from collections import Counter

from alignment_trainer.evaluation.material import Generation, Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import rate_difference
from alignment_trainer.evaluation.words import words_of

__all__ = ["degenerate", "degenerate_rate"]

_LOOP = re.compile(r"(.{4,80}?)\1{3,}", re.DOTALL)
_SAME_SHARE = 0.2
_SAME_LEAST = 5
_UNKNOWN_SHARE = 0.1
_UNKNOWN_LEAST = 2
"""A single new word is a name, not broken language."""


def degenerate_rate(material: Material, _selector: str) -> Measurement:
    """Mean paired difference of degenerate generations; clusters: groups."""
    candidate = degenerate(material.candidate, material.words)
    champion = degenerate(material.champion, material.words)
    differences = [float(a) - float(b) for a, b in zip(candidate, champion, strict=True)]
    return Measurement(
        rate_difference(differences, material.prompted_groups), champion=sum(champion) / len(champion)
    )


def degenerate(generations: list[Generation], words: frozenset[str]) -> list[bool]:
    """Which generations are degenerate. words: known ones, in lower case."""
    often = Counter(generation.text.strip() for generation in generations)
    limit = max(_SAME_LEAST, _SAME_SHARE * len(generations))
    return [
        not generation.text.strip()
        or not generation.finished
        or _LOOP.search(generation.text) is not None
        or often[generation.text.strip()] > limit
        or _broken(generation.text, words)
        for generation in generations
    ]


def _broken(text: str, words: frozenset[str]) -> bool:
    found = words_of(text)
    unknown = sum(word not in words for word in found)
    return unknown >= _UNKNOWN_LEAST and unknown > _UNKNOWN_SHARE * len(found)
