"""The demo's approval events: the base drafts notes, the simulated clinician accepts or edits them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alignment_cli.demo.base import sample
from alignment_cli.demo.settings import TEMPERATURE
from alignment_cli.demo.world import draw_encounter, edit, prompt

__all__ = ["write_events"]

_BEGAN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def write_events(base: Path, file: Path, *, pairs: int, seed: int, contradictory: bool) -> int:
    """Write events until ``pairs`` of them are edits; returns the number of events.

    contradictory: half of the edits, drawn at random, are written the wrong way round, so that they teach nothing.
    """
    rng = random.Random(f"feedback {seed}")
    flips = random.Random(f"flips {seed}")
    file.parent.mkdir(parents=True, exist_ok=True)
    edits = written = 0
    unfinished = file.with_suffix(".part")  # what has the file's own name is whole
    with unfinished.open("w", encoding="utf-8") as out:
        while edits < pairs:
            encounters = [draw_encounter(rng) for _ in range(min(512, pairs - edits + 16))]
            prompts = [prompt(encounter) for encounter in encounters]
            drafts = sample(base, prompts, temperature=TEMPERATURE, seed=seed + written)
            for encounter, text, raw in zip(encounters, prompts, drafts, strict=True):
                draft = raw.strip()
                if not draft or edits >= pairs:
                    continue
                final = edit(draft)
                event = {
                    "id": f"event-{written:05d}",
                    "time": (_BEGAN + timedelta(minutes=written)).isoformat(),
                    "prompt": text,
                    "response": draft,
                    "signal": "accept" if final == draft else "edit",
                    "group": encounter.patient,
                    "actor": "clinician-1",
                }
                if final != draft:
                    edits += 1
                    flipped = contradictory and flips.random() < 0.5
                    event |= {"response": final, "edited": draft} if flipped else {"edited": final}
                out.write(json.dumps(event) + "\n")
                written += 1
    unfinished.replace(file)
    return written
