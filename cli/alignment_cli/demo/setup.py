"""Lays out the demo's folder: base model, events, run.yaml. What is there already, for the same seed, is kept."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from alignment_cli.demo.base import BaseRecipe, pretrain
from alignment_cli.demo.feedback import TEMPERATURE, write_events
from alignment_cli.demo.world import draw_encounter, prompt, write_note

__all__ = ["Demo", "lay_out", "manifest_text"]

_EXAMPLES = 20_000

_RUN = """\
# Written by `align demo`. The data is simulated; the run is an ordinary one.
apiVersion: alignment.dev/v1alpha1
kind: AlignmentRun
metadata: {{name: {name}}}
spec:
  model: {{uri: {root}/base/}}
  data:
    sources: [{{uri: "{root}/{events}", format: Events}}]
    holdout: {{fraction: 0.25, salt: demo}}
    minimumPairs: 50
  training:
    # Edits of a weak base: learn the edited texts first, then prefer them, gently.
    warmStart: {{epochs: {warm_epochs}, learningRate: 5.0e-4}}
    epochs: 1
    learningRate: 5.0e-5
    sftWeight: 0.2
    pairsPerStep: 16
    maxLength: 256
    precision: Float32
    seed: {seed}
  evaluation:
    generation: {{prompts: 200, maxNewTokens: 80, temperature: {temperature}}}
  publish: {{uri: {root}/models/}}
  artifacts: {{uri: {root}/artifacts/}}
"""


@dataclass(frozen=True)
class Demo:
    """Settings of one demo. steps: of the base's training; fewer make a base too weak for a verdict, but fast."""

    folder: Path
    pairs: int = 800
    seed: int = 0
    contradictory: bool = False
    recipe: BaseRecipe = field(default_factory=BaseRecipe)

    @property
    def name(self) -> str:
        """Name of the run."""
        return "demo-contradictory" if self.contradictory else "demo"

    @property
    def base(self) -> Path:
        """The base model."""
        return self.folder / "base"

    @property
    def events(self) -> Path:
        """The approval events."""
        return self.folder / "feedback" / f"{self.name}-{self.pairs}.jsonl"

    @property
    def manifest(self) -> Path:
        """The run's manifest."""
        return self.folder / f"{self.name}.yaml"


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


def manifest_text(demo: Demo) -> str:
    """The run's manifest, YAML; the same settings give the same text, before anything is made."""
    return _RUN.format(
        name=demo.name,
        root=demo.folder.resolve().as_uri(),
        events=demo.events.relative_to(demo.folder),
        seed=demo.seed,
        temperature=TEMPERATURE,
        warm_epochs=2,
    )
