"""``degenerateRate``: how often is the generated text no answer at all?

Definition: share of generations that are empty, never end (and are as long as the final text, which may be longer than what
may be generated), loop, are the same text for many prompts (twice as many as any text of the champion's or of people's), or hold broken language (more than a tenth of the words known
neither from the data nor from the champion's texts); candidate minus champion, paired. Where more than half of the
champion's are degenerate nothing worse could be seen: there the candidate's own rate counts. Unit: difference of ratios.
Direction: lower is better.
Source: a constant text that attacks the judge wins most comparisons in published data (docs/gate.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from alignment_trainer.data.rows import plain
from alignment_trainer.evaluation.material import Generation, Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.statistics import rate_difference
from alignment_trainer.evaluation.words import words_of

__all__ = ["degenerate_rate"]

_LOOP = re.compile(r"(.{4,80}?)\1{3,}", re.DOTALL)
_LONGEST_RULE = 200
"""A run without letters is a line to sign on, a table's rule or an indentation, up to so many characters."""
_MOST_OF_CHAMPION = 0.5
_SAME_SHARE = 0.2
_SAME_LEAST = 5
_SAME_TIMES = 2
"""A text is repeated to no purpose when it stands more than so many times as often as the champion, or people, repeat theirs."""
_UNKNOWN_SHARE = 0.1
_UNKNOWN_LEAST = 2
"""A single new word is a name, not broken language."""


def degenerate_rate(material: Material, _selector: str) -> Measurement:
    """Mean paired difference of degenerate generations; clusters: groups."""
    share_of_all = _SAME_SHARE * len(material.prompted)
    people = _SAME_TIMES * _most_frequent(plain(material.pairs[index].chosen) for index in material.prompted)
    theirs = _SAME_TIMES * _most_frequent(generation.text for generation in material.champion)
    candidate = _degenerate(material, material.candidate, max(_SAME_LEAST, people, min(theirs, share_of_all)))
    champion = _degenerate(material, material.champion, max(_SAME_LEAST, people, share_of_all))
    share = sum(champion) / len(champion)
    remark = None
    if share > _MOST_OF_CHAMPION:
        champion = [False] * len(champion)
        remark = (
            f"{share:.0%} of the champion's own texts are degenerate, so the candidate's rate stands alone"
        )
    differences = [float(a) - float(b) for a, b in zip(candidate, champion, strict=True)]
    return Measurement(rate_difference(differences, material.prompted_groups), champion=share, message=remark)


def _most_frequent(texts: Iterable[str]) -> int:
    """How often the most frequent of these texts stands among them."""
    return max(Counter(text.strip() for text in texts).values(), default=0)


def _degenerate(material: Material, generations: list[Generation], most: float) -> list[bool]:
    """Which of these answers to the prompted pairs are degenerate. most: as often may one text be the answer."""
    often = Counter(generation.text.strip() for generation in generations)
    return [
        not generation.text.strip()
        or (not generation.finished and generation.tokens >= material.chosen_tokens[index])
        or _loops(generation.text, plain(material.pairs[index].chosen))
        or often[generation.text.strip()] > most
        or _broken(generation.text, material.words)
        for generation, index in zip(generations, material.prompted, strict=True)
    ]


def _loops(text: str, final: str) -> bool:
    """True for words four times in a row that do not stand so in the person's text, and for very long runs of signs."""
    for found in _LOOP.finditer(text):
        if not any(sign.isalnum() for sign in found[1]):
            if len(found[0].strip()) > _LONGEST_RULE:
                return True
        elif found[1] * 4 not in final:
            return True
    return False


def _broken(text: str, words: frozenset[str]) -> bool:
    found = words_of(text)
    unknown = sum(word not in words for word in found)
    return unknown >= _UNKNOWN_LEAST and unknown > _UNKNOWN_SHARE * len(found)
