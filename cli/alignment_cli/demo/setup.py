"""Lays out the demo's folder: base model, events, run.yaml. What is there already, for the same seed, is kept."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict

from alignment_cli.demo.base import pretrain
from alignment_cli.demo.feedback import write_events
from alignment_cli.demo.settings import Demo, manifest_text
from alignment_cli.demo.world import draw_encounter, prompt, write_note

__all__ = ["lay_out"]

_EXAMPLES = 20_000


def lay_out(demo: Demo, progress: Callable[[str, int, int], None]) -> None:
    """Make what is missing. progress: called with an activity and how far it is."""
    mark = demo.folder / "base.json"
    recipe = json.dumps({"seed": demo.seed, **asdict(demo.recipe)})
    if not mark.exists() or mark.read_text(encoding="utf-8") != recipe:
        rng = random.Random(f"base {demo.seed}")
        encounters = [draw_encounter(rng) for _ in range(_EXAMPLES)]
        examples = [(prompt(encounter), write_note(encounter, rng)) for encounter in encounters]
        pretrain(
            examples,
            demo.base,
            recipe=demo.recipe,
            seed=demo.seed,
            progress=lambda step, steps, _loss: progress("training the base model", step, steps),
        )
        for drafted in demo.events.parent.glob("demo*.jsonl"):
            drafted.unlink()  # by another base
        mark.write_text(recipe, encoding="utf-8")
    if not demo.events.exists():
        progress("drafting and editing notes", 0, 1)
        write_events(
            demo.base, demo.events, pairs=demo.pairs, seed=demo.seed, contradictory=demo.contradictory
        )
        progress("drafting and editing notes", 1, 1)
    demo.manifest.write_text(manifest_text(demo), encoding="utf-8")
