"""Small embedded runs for tests: a tiny real model, invented edits, a manifest, and ``align`` as a subprocess."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.tiny import save_tiny_model

__all__ = ["ALWAYS", "NEVER", "Project", "edits"]

ALWAYS = [{"name": "edits", "metric": "editBurden", "maximum": 100.0}]
"""A gate that any model passes: what is tested is the road, not the model."""
NEVER = [{"name": "language", "metric": "degenerateRate", "minimum": 100.0}]
"""A gate that every model fails."""
_WORDS = [
    "the",
    "patient",
    "reports",
    "mild",
    "pain",
    "after",
    "lunch",
    "and",
    "sleeps",
    "well",
    "since",
    "monday",
    "with",
    "no",
    "fever",
    "or",
    "cough",
    "today",
]


def edits(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Invented edit events, each of a patient of its own: few equal numbers in few groups would say nothing."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        words = [rng.choice(_WORDS) for _ in range(8)]
        edited = [*words[:4], "and", *rng.sample(_WORDS, 3)]
        rows.append(
            {
                "id": f"e{index}",
                "time": f"2026-01-05T12:{index // 60:02d}:{index % 60:02d}Z",
                "prompt": f"Visit {index}: {' '.join(rng.sample(_WORDS, 3))}. Note:",
                "response": " " + " ".join(words),
                "signal": "edit",
                "edited": " " + " ".join(edited),
                "group": f"patient-{index}",
            }
        )
    return rows


@dataclass
class Project:
    """A folder with everything a run needs. root: where its URIs point; a file:// or s3:// URI without trailing slash."""

    folder: Path
    root: str
    environment: dict[str, str]

    @classmethod
    def local(cls, folder: Path) -> Project:
        """All URIs on file://."""
        return cls(folder, folder.as_uri(), {})

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def with_model(self, **options: Any) -> Project:
        save_tiny_model(self.folder / "base", **options)
        return self

    def with_rows(self, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Project:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return self

    def manifest(self, name: str = "tiny", **changes: Any) -> Path:
        """Write a manifest; ``changes`` replace whole sections of the spec."""
        spec: dict[str, Any] = {
            "model": {"uri": f"{self.root}/base/"},
            "data": {
                "sources": [{"uri": f"{self.root}/rows.jsonl"}],
                "minimumPairs": 20,
                "holdout": {"fraction": 0.3},
            },
            "training": {
                "precision": "Float32",
                "maxLength": 256,
                "epochs": 1,
                "pairsPerStep": 8,
                "selectionFraction": 0,
                "learningRate": 1e-4,
            },
            "evaluation": {"generation": {"prompts": 12, "maxNewTokens": 12}},
            "gate": {"criteria": ALWAYS},
            "publish": {"uri": f"{self.root}/models/"},
            "artifacts": {"uri": f"{self.root}/artifacts/"},
            "backoffLimit": 0,
        }
        document = {
            "apiVersion": "alignment.dev/v1alpha1",
            "kind": "AlignmentRun",
            "metadata": {"name": name},
            "spec": spec | changes,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``align`` as a process of its own."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | self.environment
        return subprocess.Popen(
            [sys.executable, "-m", "alignment_cli.main", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def align(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run ``align`` to its end."""
        process = self.start(*arguments)
        out, error = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    def run(self, manifest: Path) -> subprocess.CompletedProcess[str]:
        """``align run`` with JSON output."""
        return self.align("run", "-f", str(manifest), "--state", str(self.state), "-o", "json")

    def resource(self, name: str = "tiny") -> dict[str, Any]:
        """The run as the state folder has it."""
        loaded: dict[str, Any] = json.loads(
            (self.state / "runs" / name / "run.json").read_text(encoding="utf-8")
        )
        return loaded

    def reason(self, name: str = "tiny") -> str:
        conditions = self.resource(name)["status"]["conditions"]
        return next(str(c["reason"]) for c in conditions if c["type"] == "Succeeded")
