"""Near-identical prompts: our batch MinHash against ``datasketch``, on the prompts of the benchmark's events.

    python -m tools.bench.near [--prompts 20000]

The same shingles, 64 minima, 16 bands of 4; half the prompts are indexed, half asked. Needs ``pip install datasketch``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np

from alignment_trainer.data.near import NearIndex, shingles
from tools.bench.events import event_lines

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Measure and print microseconds a prompt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=20_000)
    count = parser.parse_args(arguments).prompts
    prompts = [json.loads(line)["prompt"] for line in event_lines(count)]
    known, asked = prompts[: count // 2], prompts[count // 2 :]
    # Every fiftieth is asked again with its last word left out.
    asked[::50] = [prompt.rsplit(" ", 1)[0] for prompt in known[: len(asked[::50])]]
    began = time.process_time()
    index = NearIndex(np.zeros(0, dtype=np.uint64))
    for start in range(0, len(known), 1024):
        index.add(known[start : start + 1024])
    index.finish()
    found = sum(sum(index.near(asked[start : start + 1024])) for start in range(0, len(asked), 1024))
    ours = time.process_time() - began
    print(f"ours: {1e6 * ours / count:.0f} µs a prompt, {found} found")
    from datasketch import MinHash, MinHashLSH  # noqa: PLC0415  not a dependency of ours

    def signed(prompt: str) -> MinHash:
        signature = MinHash(num_perm=64, hashfunc=lambda code: int(code) & 0xFFFFFFFF)
        signature.update_batch(shingles(prompt).tolist())
        return signature

    began = time.process_time()
    lsh = MinHashLSH(num_perm=64, params=(16, 4))
    signatures = {str(number): signed(prompt) for number, prompt in enumerate(known)}
    for key, signature in signatures.items():
        lsh.insert(key, signature)
    found = 0
    for prompt in asked:
        signature = signed(prompt)
        found += any(signature.jaccard(signatures[key]) >= 0.8 for key in lsh.query(signature))
    theirs = time.process_time() - began
    print(
        f"datasketch: {1e6 * theirs / count:.0f} µs a prompt, {found} found; ours {theirs / ours:.1f} times as fast"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
