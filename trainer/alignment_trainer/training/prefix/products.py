"""Matrix products on CPU: oneDNN's where torch's own (MKL's) do not use what the processor can do.

On processors that are not Intel's, MKL computes float32 products with half of the AVX-512 units: 105 against 235 GFLOP/s
on one core of an AMD EPYC 9005. torch brings oneDNN along and uses it for bfloat16; here it does float32 as well. Both
accumulate in float32. All other devices and number formats go to torch.

M rows, K inner size, N columns.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

__all__ = ["FasterLinear", "available", "product"]

_log = logging.getLogger(__name__)
_LEAST_WORK: Final = 1 << 20
"""Multiplications below which a product is torch's: oneDNN takes half a millisecond to prepare for a new shape."""
_LIMIT: Final = 1e-5
"""Largest difference to torch's product that the check allows, relative to the largest value."""


@functools.cache
def available() -> bool:
    """Whether float32 products are oneDNN's in this process: a processor where that is faster, and right."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or _is_intel():
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, generator=generator) for size in ((65, 130), (130, 33)))
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            wanted = left @ right
            found = (_onednn(left, right), _onednn(left.t().contiguous().t(), right.t().contiguous().t()))
    except (AttributeError, RuntimeError, TypeError) as error:  # not a public function: it may change or go
        _log.info("products: oneDNN's do not run here (%s); using torch's", type(error).__name__)
        return False
    worst = max(float((one - wanted).abs().max() / wanted.abs().max()) for one in found)
    if not worst <= _LIMIT:
        _log.warning("products: oneDNN's differ from torch's by %.2g; using torch's", worst)
        return False
    return True


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(M, K) times (K, N), without gradient."""
    if left.shape[0] * right.numel() >= _LEAST_WORK and _fits(left) and _fits(right) and available():
        return _onednn(left, right)
    return left @ right


class FasterLinear(TorchFunctionMode):
    """While it is entered, ``torch.nn.functional.linear`` uses :func:`product`, backwards too."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Calls ``func``, or ours in its place."""
        return (_linear if func is linear else func)(*args, **(kwargs or {}))


def _linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:  # noqa: A002  torch's name
    if not (_fits(input) and _fits(weight) and (bias is None or _fits(bias)) and input.numel()):
        return linear(input, weight, bias)
    out: torch.Tensor = _Linear.apply(input, weight, bias)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        # What nobody differentiates is not kept: a frozen weight's input is not needed, nor a weight for the first layer.
        ctx.save_for_backward(
            x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None
        )
        out = product(x.reshape(-1, x.shape[-1]), weight.t())
        if bias is not None:
            out += bias
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_weight = None
        if weight is not None:
            grad_x = product(flat, weight).view(*grad.shape[:-1], -1)
        if x is not None:
            # The long dimension is summed over; oneDNN is fast when the wider factor is on the right.
            rows = x.reshape(-1, x.shape[-1])
            narrow = flat.shape[1] < rows.shape[1]
            grad_weight = product(flat.t(), rows) if narrow else product(rows.t(), flat).t()
        return grad_x, grad_weight, flat.sum(0) if ctx.needs_input_grad[2] else None


def _fits(x: Any) -> bool:
    """A plain float32 tensor on CPU: not one that is spread over processes, nor one that autocast will narrow."""
    return (
        type(x) in (torch.Tensor, torch.nn.Parameter)
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


def _onednn(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    return out


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: leave everything as it is
        return True
