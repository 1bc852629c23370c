"""What a demo is: its folder, its sizes, its run's manifest. Loads no library, so that a refusal comes at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["TEMPERATURE", "BaseRecipe", "Demo", "manifest_text"]

TEMPERATURE = 0.8
"""At which drafts are sampled and models are compared: low enough to keep facts, high enough to vary wording."""

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
class BaseRecipe:
    """Size and schedule; the defaults are what the demo uses. Lengths in tokens."""

    vocabulary: int = 1024
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    context: int = 256
    steps: int = 600
    examples_per_step: int = 16
    learning_rate: float = 5e-3


@dataclass(frozen=True)
class Demo:
    """Settings of one demo. recipe: of the base; with fewer steps it is too weak for a verdict, but fast."""

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
