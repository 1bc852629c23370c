"""How time and memory of the whole train stage grow with the number of pairs: ``--growth 500 2000 20000``.

Each number in a process of its own, on the file system, with the checkpoints that a run of this length writes. Time is
of the CPU, which other programs disturb less. Memory is what the process itself allocated, without pages of files
(libraries, the token ids on disk), which the kernel takes back when it wants to: at most, and what is in use at the last
step, when the allocators have given back what they keep for later. They keep the more, the more batches they have seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import torch

import alignment_trainer.training.trainer  # noqa: F401  imports are not measured
from alignment_api.stage import StageRequest
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.stage import run
from tools.bench.train.arm import quiet
from tools.bench.train.material import SIZES, describe_model, make_pairs, pairs_of, random_weights
from tools.bench.train.process import in_own_process
from tools.bench.train.stage import request_for

__all__ = ["print_growth"]


def print_growth(counts: list[int], threads: int) -> None:
    """Print one line per number of pairs."""
    print(
        "| pairs | milliseconds of CPU per pair | of it before the first step | memory at most (MiB) | in use at the last step (MiB) |"
    )
    print("|---|---|---|---|---|", flush=True)
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as name:
            in_own_process(prepare, Path(name), count)
            in_own_process(measure_to, Path(name), threads)
            found = json.loads((Path(name) / "measured.json").read_text(encoding="utf-8"))
        total, before = (1000 * found[key] / count for key in ("seconds", "before"))
        most, used = (f"{found[key] / 2**20:.0f}" for key in ("bytes", "used"))
        print(f"| {count:,} | {total:.2f} | {before:.2f} | {most} | {used} |", flush=True)


class _Clock:
    """Notes when the first step is done, and the memory in use when the last one is."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.used = 0

    def update(
        self, step: int, steps: int, *, activity: str = "", metrics: dict[str, float] | None = None
    ) -> None:
        """The trainer reports a step."""
        del metrics
        if self.first is None and activity == "training":
            self.first = time.process_time()
        if step == steps:
            self.used = _in_use()


class _Watch(threading.Thread):
    """Looks at this process's memory twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self._bytes = 0
        self.start()

    def run(self) -> None:
        """The thread's work."""
        while not self._done.wait(0.05):
            self._bytes = max(self._bytes, _allocated())

    def most(self) -> int:
        """Bytes at most until now."""
        self._done.set()
        self.join()
        return self._bytes


def prepare(folder: Path, count: int) -> None:
    """A snapshot of ``count`` pairs and the request over it; in a process of its own, whose memory is not measured."""
    model = folder / "model"
    describe_model(model, "tiny", "short")
    random_weights(model).save_pretrained(model)
    request = request_for(folder, list(pairs_of(make_pairs("short", count, SIZES["tiny"].pairs_per_step))))
    (folder / "request.json").write_text(json.dumps(request.to_wire()), encoding="utf-8")


def measure_to(folder: Path, threads: int) -> None:
    """The prepared stage, measured from its start to its stored result."""
    quiet()
    torch.set_num_threads(threads)
    request = StageRequest.model_validate_json((folder / "request.json").read_text(encoding="utf-8"))
    clock = _Clock()
    context = StageContext(request, Stores(), folder / "scratch", clock, threading.Event())
    context.scratch.mkdir()
    watch = _Watch()
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        run(context)
    found = {
        "seconds": time.process_time() - began,
        "before": (clock.first or began) - began,
        "bytes": watch.most(),
        "used": clock.used,
    }
    (folder / "measured.json").write_text(json.dumps(found), encoding="utf-8")


def _allocated() -> int:
    """Bytes of this process that are in memory and of no file."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def _in_use() -> int:
    """The same without what the allocators of C, Python and Arrow hold for later."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)  # glibc's
    return _allocated()
