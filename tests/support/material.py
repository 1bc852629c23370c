"""Material of an evaluation without models: honest defaults, changed by keyword."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from alignment_trainer.data.rows import Kind, Pair, Place
from alignment_trainer.evaluation.material import Drift, Generation, Logps, Material
from alignment_trainer.evaluation.words import known_words

__all__ = ["generation", "material", "pair"]


def pair(number: int, *, group: str = "", cohort: str = "", kind: Kind = Kind.EDIT) -> Pair:
    """An edit: the draft ends in a word that the person replaced."""
    return Pair(
        id=f"p{number}",
        place=Place("file:///rows.jsonl", number + 1),
        prompt=f"question {number}",
        chosen=f"a short reply to number {number} that is fine",
        rejected=f"a short reply to number {number} that is poor",
        kind=kind,
        group=group or f"g{number}",
        cohort=cohort,
    )


def generation(text: str, *, finished: bool = True) -> Generation:
    """A generated answer of as many tokens as it has words."""
    return Generation(text, max(1, len(text.split())), finished)


def material(count: int = 40, **changes: Any) -> Material:
    """``count`` pairs; candidate and champion both repeat the draft at every temperature; log-probabilities equal."""
    pairs = changes.pop("pairs", None) or [pair(number) for number in range(count)]
    drafts = [generation(str(p.rejected)) for p in pairs]
    logps = Logps(chosen=np.full(len(pairs), -20.0), rejected=np.full(len(pairs), -10.0))
    made = Material(
        pairs=pairs,
        candidate_logps=logps,
        champion_logps=logps,
        chosen_tokens=np.full(len(pairs), 9),
        prompted=list(range(len(pairs))),
        candidate=drafts,
        champion=list(drafts),
        champion_best=[draft.text for draft in drafts],
        drift=Drift(champion_logps=np.full(len(pairs), -10.0), divergences=np.zeros(len(pairs))),
        champion_temperature=0.7,
        words=known_words(str(t) for p in pairs for t in (p.prompt, p.chosen, p.rejected)),
        temperatures={0.7: 0.1},
    )
    return replace(made, **changes)
