"""How far losses drift from TRL's over 100 steps in float32, beside how far TRL drifts from itself: ``--band``.

Sums in another order differ in the last bit, and training carries that on. The measure of what is no difference is TRL
against TRL with another number of threads, on the same model, pairs, order and seed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from tools.bench.train.arm import Arm, Measured, measure_to
from tools.bench.train.material import SIZES, describe_model, make_pairs
from tools.bench.train.process import in_own_process

__all__ = ["print_band"]

STEPS: Final = 100
_HEAD: Final = (
    "| {size}, {training}, {data}, fp32: step | loss of TRL | TRL with {others} threads instead of {threads} | ours |\n"
    "|---|---|---|---|"
)


def print_band(size: str, training: str, data: str, threads: int, *, steps: int = STEPS) -> None:
    """Print the losses of some steps, and the largest difference of all steps and their mean."""
    others = 1 if threads > 1 else 2
    with tempfile.TemporaryDirectory(prefix="bench-band-") as name:
        folder = Path(name)
        describe_model(folder / "model", size, data)
        at_once = SIZES[size].pairs_per_step
        rows = make_pairs(data, steps * at_once, at_once)
        (folder / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
        theirs, again, ours = (
            _losses(
                Arm(
                    kind, name, training == "lora", low_precision=False, threads=count, pairs_per_step=at_once
                ),
                folder,
            )
            for kind, count in (("tuned", threads), ("tuned", others), ("empty", threads))
        )
    band, drift = ([abs(a - b) for a, b in zip(other, theirs, strict=True)] for other in (again, ours))
    print(_HEAD.format(size=size, training=training, data=data, threads=threads, others=others))
    for step in [1, *range(max(1, steps // 10), steps + 1, max(1, steps // 10))]:
        print(f"| {step} | {theirs[step - 1]:.6f} | {band[step - 1]:.1e} | {drift[step - 1]:.1e} |")
    print(f"| largest of all {steps} | | {max(band):.1e} | {max(drift):.1e} |")
    print(f"| mean of all {steps} | | {sum(band) / steps:.1e} | {sum(drift) / steps:.1e} |", flush=True)


def _losses(arm: Arm, folder: Path) -> list[float]:
    file = folder / "measured.json"
    in_own_process(measure_to, arm, file)
    return Measured(**json.loads(file.read_text(encoding="utf-8"))).losses
