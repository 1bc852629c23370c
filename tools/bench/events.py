"""Approval events for benchmarks: about 1 KB each, as varied as a product's. Deterministic in seed and number."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["event_lines"]

_SYLLABLES: Final = ("ka", "lo", "mi", "nu", "re", "so", "ti", "vu", "ban", "dor", "fel", "gim", "hos", "jur")
_TEMPLATE: Final = "You write the summary of a visit for the chart. Be brief, name the reason, the findings and the plan. Notes: "
_COHORTS: Final = ("north", "south", "east")


def event_lines(count: int, seed: int = 0) -> Iterator[bytes]:
    """JSON lines: 70 % edits (a sixth of them continue another, a tenth change punctuation only), 28 % signals, 2 % repeated."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(20_000)]
    last: dict[str, Any] | None = None
    for number in range(count):
        draw = rng.random()
        if last is not None and draw < 0.02:
            row = last
        elif last is not None and last["signal"] == "edit" and draw < 0.14:
            row = last | {
                "id": f"e{number}",
                "response": last["edited"],
                "edited": _edited(last["edited"], rng, words),
            }
        else:
            row = _fresh(number, rng, words)
        last = row
        yield json.dumps(row).encode() + b"\n"


def _fresh(number: int, rng: random.Random, words: list[str]) -> dict[str, Any]:
    response = " ".join(rng.choices(words, k=44))
    row: dict[str, Any] = {
        "id": f"e{number}",
        "time": f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:00Z",
        "prompt": _TEMPLATE + " ".join(rng.choices(words, k=24)),
        "response": response,
        "actor": f"a{rng.randrange(200)}",
        "group": f"g{number // 5}",
        "cohort": rng.choice(_COHORTS),
        "model": "m7",
    }
    draw = rng.random()
    if draw < 0.7:
        return row | {"signal": "edit", "edited": _edited(response, rng, words)}
    if draw < 0.75:
        return row | {"signal": "prefer", "other": " ".join(rng.choices(words, k=44))}
    return row | {"signal": rng.choice(("accept", "thumbs_up", "thumbs_down"))}


def _edited(text: str, rng: random.Random, words: list[str]) -> str:
    if rng.random() < 0.1:
        return text.replace(" ", ", ", 3) + "."
    out = text.split(" ")
    for _ in range(rng.randint(1, 8)):
        out[rng.randrange(len(out))] = rng.choice(words)
    return " ".join(out)
