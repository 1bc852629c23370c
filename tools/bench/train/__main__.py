"""``make bench-train``: seconds, tokens, memory and losses of TRL and of ours, as one table.

Each arm runs in a process of its own, one after the other, on the same model, pairs, order, seed, precision and
number of threads. TRL default: its own settings. TRL tuned: no gradient checkpointing, reference computed before
training in batches of four times the size, a frozen base kept in bfloat16 where training is in bfloat16; "online" computes it
in each step instead. All arms get their pairs grouped by length, which only the padded ones gain from. On a GPU each arm
begins after a step of a small model, and only TRL's default keeps cuDNN's attention.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig, AutoTokenizer

from alignment_trainer.training.tokens import tokenize_pair
from tools.bench.train.arm import Arm, Measured, measure_to, quiet
from tools.bench.train.band import print_band
from tools.bench.train.floor import floor_flops, matmul_rate
from tools.bench.train.growth import print_growth
from tools.bench.train.material import DATA, REAL_EDITS, SIZES, describe_model, make_pairs, pairs_of
from tools.bench.train.process import in_own_process

ARMS: Final = {
    "tuned": "TRL tuned",
    "online": "TRL tuned, reference in each step",
    "default": "TRL default",
    "empty": "ours, empty cache",
    "full": "ours, full cache",
    "plain": "ours, empty cache, torch's matrix products",
}
_PAIRS: Final = {"tiny": 16, "5M": 64, "60M": 16, "1B": 256, "8B": 256}


@dataclass(frozen=True)
class Setting:
    """What the arms have in common."""

    size: str
    lora: bool
    data: str
    low_precision: bool
    device: str = "cpu"

    def __str__(self) -> str:
        training = "LoRA" if self.lora else "full weights"
        return f"{self.size}, {training}, {self.data}, {'bf16' if self.low_precision else 'fp32'}"


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["5M", "60M"])
    parser.add_argument("--training", nargs="+", choices=["lora", "full"], default=["lora", "full"])
    parser.add_argument("--data", nargs="+", choices=DATA, default=["generic", "edits", "real"])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument(
        "--arms", nargs="+", choices=list(ARMS), default=[arm for arm in ARMS if arm != "online"]
    )
    parser.add_argument(
        "--pairs", type=int, help="instead of 64 pairs for the 5M model, 16 for 60M, 256 for 1B and 8B"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--profile", action="store_true", help="print where each arm's time goes")
    parser.add_argument(
        "--growth", type=int, nargs="*", metavar="PAIRS", help="instead: the train stage over so many pairs"
    )
    parser.add_argument(
        "--band",
        action="store_true",
        help="instead: losses over 100 steps in float32, beside TRL's own drift",
    )
    options = parser.parse_args()
    if options.device != "cpu" and (options.band or options.growth is not None):
        parser.error("--band and --growth run on the CPU")
    quiet()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.growth is not None:
        print_growth(options.growth or [500, 2_000, 20_000], options.threads)
        return
    if options.band:
        for size, training, data in itertools.product(options.sizes, options.training, options.data):
            print_band(size, training, data, options.threads)
        return
    print(_HEAD, flush=True)
    for size, training, data, precision in itertools.product(
        options.sizes, options.training, options.data, options.precisions
    ):
        setting = Setting(size, training == "lora", data, precision == "bf16", options.device)
        if data == "real" and not REAL_EDITS.exists():
            print(f"| {setting} | skipped: {REAL_EDITS.name} is not beside the repository |", flush=True)
            continue
        for line in measure(
            setting, options.arms, options.pairs or _PAIRS[size], options.threads, profile=options.profile
        ):
            print(line, flush=True)


def measure(
    setting: Setting, arms: list[str], count: int, threads: int, *, profile: bool = False
) -> Iterator[str]:
    """The table's lines of one setting, as they are measured."""
    with tempfile.TemporaryDirectory(prefix="bench-train-") as name:
        folder = Path(name)
        describe_model(folder / "model", setting.size, setting.data)
        rows = make_pairs(setting.data, count, SIZES[setting.size].pairs_per_step)
        (folder / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
        measured: dict[str, Measured] = {}
        for kind in ARMS:
            if kind in arms:
                arm = Arm(
                    kind,
                    name,
                    setting.lora,
                    setting.low_precision,
                    threads,
                    SIZES[setting.size].pairs_per_step,
                    profile=profile,
                    device=setting.device,
                )
                measured[kind] = _run(arm, folder)
                yield _line(
                    setting, kind, measured, _floor_seconds(setting, folder, rows, kind, threads), threads
                )


def _run(arm: Arm, folder: Path) -> Measured:
    file = folder / f"{arm.kind}.measured"
    in_own_process(measure_to, arm, file)
    return Measured(**json.loads(file.read_text(encoding="utf-8")))


def _floor_seconds(
    setting: Setting, folder: Path, rows: list[dict[str, str]], kind: str, threads: int
) -> float:
    """Seconds that the least arithmetic takes here: the reference too, where the arm had to compute it."""
    config = AutoConfig.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    examples = [tokenize_pair(pair, tokenizer) for pair in pairs_of(rows)]
    flops = floor_flops(examples, config, lora=setting.lora, reference=kind != "full")
    return flops / matmul_rate(
        config, low_precision=setting.low_precision, threads=threads, device=setting.device
    )


_HEAD: Final = (
    "| model, training, data, precision | arm | seconds (of CPU) | pairs per second | against tuned (by CPU) | tokens computed "
    "| peak memory (MiB) | largest loss difference to tuned | share of the floor (by CPU) |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def _line(
    setting: Setting, kind: str, measured: dict[str, Measured], floor_seconds: float, threads: int
) -> str:
    it, tuned = measured[kind], measured.get("tuned") or measured.get("online")
    ratio = gap = "–"
    if tuned is not None:
        ratio = f"{tuned.seconds / it.seconds:.2f}× ({tuned.cpu_seconds / it.cpu_seconds:.2f}×)"
        gap = f"{max(abs(a - b) for a, b in zip(it.losses, tuned.losses, strict=True)):.1e}"
    cells: list[Any] = [
        setting,
        ARMS[kind],
        f"{it.seconds:.2f} ({it.cpu_seconds:.1f})",
        f"{it.pairs / it.seconds:.2f}",
        ratio,
        f"{it.tokens:,}",
        f"{it.bytes / 2**20:.0f}",
        "–" if it is tuned else gap,
        f"{floor_seconds / it.seconds:.0%} ({floor_seconds * threads / it.cpu_seconds:.0%})",
    ]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
