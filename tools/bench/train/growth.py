"""How time and memory of the whole train stage grow with the number of pairs: ``--growth 500 2000 20000``.

Each number in a process of its own, on the file system, with the checkpoints that a run of this length writes.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import tempfile
import threading
import time
from pathlib import Path

import torch

import alignment_trainer.training.trainer  # noqa: F401  imports are not measured
from alignment_api.stage import StageRequest
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.stage import run
from tools.bench.train.arm import quiet
from tools.bench.train.material import make_model, make_pairs, pairs_of
from tools.bench.train.process import in_own_process
from tools.bench.train.stage import request_for

__all__ = ["print_growth"]


def print_growth(counts: list[int], threads: int) -> None:
    """Print one line per number of pairs."""
    print("| pairs | milliseconds per pair | of it before the first step | peak memory (MiB) |")
    print("|---|---|---|---|", flush=True)
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as name:
            in_own_process(prepare, Path(name), count)
            in_own_process(measure_to, Path(name), threads)
            found = json.loads((Path(name) / "measured.json").read_text(encoding="utf-8"))
        total, before = (1000 * found[key] / count for key in ("seconds", "before"))
        print(f"| {count:,} | {total:.2f} | {before:.2f} | {found['bytes'] / 2**20:.0f} |", flush=True)


class _Clock:
    """Notes when the first step is done."""

    def __init__(self) -> None:
        self.first: float | None = None

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        """The trainer reports a step."""
        del step, steps, metrics
        if self.first is None and activity == "training":
            self.first = time.perf_counter()


def prepare(folder: Path, count: int) -> None:
    """A snapshot of ``count`` pairs and the request over it; in a process of its own, whose memory is not measured."""
    make_model(folder / "model", "tiny", "short")
    request = request_for(folder, list(pairs_of(make_pairs("short", count))))
    (folder / "request.json").write_text(json.dumps(request.to_wire()), encoding="utf-8")


def measure_to(folder: Path, threads: int) -> None:
    """The prepared stage, measured from its start to its stored result."""
    quiet()
    torch.set_num_threads(threads)
    request = StageRequest.model_validate_json((folder / "request.json").read_text(encoding="utf-8"))
    clock = _Clock()
    context = StageContext(request, Stores(), folder / "scratch", clock, threading.Event())
    context.scratch.mkdir()
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run(context)
    found = {
        "seconds": time.perf_counter() - began,
        "before": (clock.first or began) - began,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    (folder / "measured.json").write_text(json.dumps(found), encoding="utf-8")
