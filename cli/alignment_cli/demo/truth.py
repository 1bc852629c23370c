"""What the demo alone can know: whether the candidate's notes are truly nearer to the hidden style.

On fresh visits, which no stage has seen, candidate and base each write a note; the one that breaks fewer of the
style's rules, and fewer rules of language, is preferred; equal is a tie and counts half.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from alignment_cli.demo.base import sample
from alignment_cli.demo.settings import TEMPERATURE
from alignment_cli.demo.world import broken_rules, draw_encounter, prompt, unknown_words
from alignment_trainer.data.shares import wilson

__all__ = ["Truth", "true_preference"]


@dataclass(frozen=True)
class Truth:
    """rate: true preference for the candidate, with a 95 % Wilson interval; in_style: share of notes that keep every rule."""

    rate: float
    low: float
    high: float
    n: int
    candidate_in_style: float
    base_in_style: float


def true_preference(candidate: Path, base: Path, *, visits: int = 300, seed: int = 0) -> Truth:
    """Compare two model folders by the simulation's own rules."""
    rng = random.Random(f"truth {seed}")
    prompts = [prompt(draw_encounter(rng)) for _ in range(visits)]
    notes = [
        [text.strip() for text in sample(folder, prompts, temperature=TEMPERATURE, seed=seed + 10_000)]
        for folder in (candidate, base)
    ]
    wins = [_preferred(ours, theirs) for ours, theirs in zip(*notes, strict=True)]
    rate = sum(wins) / visits
    low, high = wilson(rate, visits)
    in_style = [sum(not broken_rules(note) for note in side) / visits for side in notes]
    return Truth(rate, low, high, visits, in_style[0], in_style[1])


def _preferred(ours: str, theirs: str) -> float:
    faults = [len(broken_rules(note)) + unknown_words(note) for note in (ours, theirs)]
    return 0.5 if faults[0] == faults[1] else float(faults[0] < faults[1])
