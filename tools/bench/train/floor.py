"""The least arithmetic that a training needs, and how fast this machine does arithmetic.

Counted: matrix products of the frozen or trained weights, of attention, and of the head, for each distinct token once;
not counted: adapters (1 to 3 %), norms, softmax, the optimizer. So 100 % cannot be reached.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

from alignment_trainer.training.prefix.products import product

__all__ = ["floor_flops", "matmul_rate"]


def floor_flops(
    examples: Iterable[dict[str, list[int]]], config: Any, *, lora: bool, reference: bool
) -> float:
    """Floating-point operations of one epoch over tokenized pairs. reference: computed too, or known."""
    hidden, inner, layers = (
        int(config.hidden_size),
        int(config.intermediate_size),
        int(config.num_hidden_layers),
    )
    size = hidden // config.num_attention_heads
    keys = config.num_key_value_heads * size
    trunk = layers * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * inner)
    forward = backward = 0.0
    for example in examples:
        prompt, chosen, rejected = (example[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        common = _common(chosen, rejected)
        first, second = len(prompt) + len(chosen) - 1, len(prompt) + len(rejected) - 1
        shared = min(len(prompt) + common, first, second)
        tokens = first + second - shared
        scores = first * (first + 1) / 2 + sum(range(shared + 1, second + 1))
        rows = len(chosen) + len(rejected) - common
        dense, attention, head = (
            2.0 * trunk * tokens,
            4.0 * layers * hidden * scores,
            2.0 * hidden * config.vocab_size * rows,
        )
        forward += dense + attention + head
        # Through frozen weights only the gradient of the activations goes; attention has four products backwards.
        backward += (1 if lora else 2) * (dense + head) + 2 * attention
    return forward * (2 if reference else 1) + backward


def matmul_rate(
    config: Any, *, low_precision: bool, threads: int, device: str = "cpu", seconds: float = 1.0
) -> float:
    """Floating-point operations per second of the model's largest matrix product over 2048 tokens, by the
    fastest library here, the best of some.
    """
    torch.set_num_threads(threads)
    kind = torch.bfloat16 if low_precision else torch.float32
    left = torch.randn(2048, config.hidden_size).to(device, kind)
    right = torch.randn(config.hidden_size, config.intermediate_size).to(device, kind)
    work = 2.0 * left.numel() * right.shape[1]
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        product(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return work / best


def _common(chosen: list[int], rejected: list[int]) -> int:
    for number, (a, b) in enumerate(zip(chosen, rejected, strict=False)):
        if a != b:
            return number
    return min(len(chosen), len(rejected))
