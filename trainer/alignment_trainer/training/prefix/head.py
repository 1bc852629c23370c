"""Log-probabilities of labels under the LM head, without holding the logits of a whole batch.

With a frozen head (LoRA) the gradient of a row's log-probability by its hidden state, ``W[label] - p W``, needs
nothing from later, so it is computed in the forward pass while the logits are at hand: the backward pass is one
multiplication. With a trained head the probabilities are kept up to a bound, and computed again beyond it.

R rows, E hidden size, V vocabulary. Half-precision products accumulate where torch accumulates them; softmax and sums
are in float32 at least, in float64 for float64 inputs.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from alignment_trainer.training.prefix.products import product

__all__ = ["STATISTICS", "score_rows"]

STATISTICS: Final = ("entropy", "mean_logits", "is_top1", "log_sum_sq_probs")
"""What can be computed besides the log-probabilities, by TRL's names."""
_TILE_BYTES: Final = {"cpu": 8 << 20, "cuda": 256 << 20}
"""Logits held at once. On CPU less would stay in a core's own cache, but oneDNN lays the weight out anew for each tile:
tiles of 1 MiB cost a tenth of a step."""
_FEWEST_ROWS: Final = 32
"""Rows per tile at least: with fewer, a product reads the weight more often than it computes with it."""
_KEPT_BYTES: Final = 128 << 20
"""Probabilities kept for the backward pass of a trained head."""


def score_rows(
    hidden_RE: torch.Tensor,
    weight_VE: torch.Tensor,
    bias_V: torch.Tensor | None,
    labels_R: torch.Tensor,
    statistics: tuple[str, ...] = (),
) -> dict[str, torch.Tensor]:
    """Log-probability of each row's label, nats, as ``log_probs``; and the named statistics, without gradient."""
    outputs: tuple[torch.Tensor, ...] = _Score.apply(hidden_RE, weight_VE, bias_V, labels_R, statistics)
    return dict(zip(("log_probs", *statistics), outputs, strict=True))


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        statistics: tuple[str, ...],
    ) -> tuple[torch.Tensor, ...]:
        device = hidden.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        frozen = not any(ctx.needs_input_grad[1:3])
        wide = torch.promote_types(kind, torch.float32)
        rows = hidden.shape[0]
        log_probs = hidden.new_empty(rows, dtype=wide)
        extras = {
            name: hidden.new_empty(rows, dtype=torch.bool if name == "is_top1" else wide)
            for name in statistics
        }
        slope = torch.empty_like(hidden) if frozen and ctx.needs_input_grad[0] else None
        with torch.autocast(device, enabled=False):
            h, w = hidden.to(kind), weight.to(kind)
            b = None if bias is None else bias.to(kind)
            keep = not frozen and rows * w.shape[0] * wide.itemsize <= _KEPT_BYTES
            kept = hidden.new_empty(rows, w.shape[0], dtype=wide) if keep else None
            for part in _tiles(rows, w.shape[0] * wide.itemsize, device):
                logits = _logits(h[part], w, b, wide)
                top, winner = logits.max(-1)
                target = logits.gather(-1, labels[part, None]).squeeze(-1)
                if "mean_logits" in extras:
                    extras["mean_logits"][part] = logits.mean(-1)
                chances = torch.softmax(logits, -1, out=None if kept is None else kept[part])
                # The largest probability is 1 over the sum of exp(logit - top): never small enough to underflow.
                log_sum = top - chances.gather(-1, winner[:, None]).squeeze(-1).log()
                log_probs[part] = target - log_sum
                _fill(extras, part, logits, chances, log_sum, winner == labels[part])
                if slope is not None:
                    slope[part] = (w[labels[part]] - product(chances.to(kind), w)).to(slope.dtype)
        ctx.frozen, ctx.kind = frozen, kind
        if slope is not None:
            ctx.save_for_backward(slope)
        elif not frozen:
            ctx.save_for_backward(hidden, weight, bias, labels, kept)
        ctx.mark_non_differentiable(*extras.values())
        return (log_probs, *extras.values())

    @staticmethod
    def backward(ctx: Any, grad_R: torch.Tensor, *_: Any) -> Any:
        if ctx.frozen:
            (slope,) = ctx.saved_tensors
            return (slope * grad_R[:, None]).to(slope.dtype), None, None, None, None
        hidden, weight, bias, labels, kept = ctx.saved_tensors
        device, kind = hidden.device.type, ctx.kind
        wide = torch.promote_types(kind, torch.float32)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Sums over tiles are kept in float32: rounding each of them to bfloat16 would bias the head's gradient.
        grad_weight = weight.new_zeros(weight.shape, dtype=wide) if ctx.needs_input_grad[1] else None
        grad_bias = weight.new_zeros(weight.shape[0], dtype=wide) if ctx.needs_input_grad[2] else None
        with torch.autocast(device, enabled=False):
            h, w = hidden.to(kind), weight.to(kind)
            b = None if bias is None else bias.to(kind)
            for part in _tiles(h.shape[0], w.shape[0] * wide.itemsize, device):
                chances = torch.softmax(_logits(h[part], w, b, wide), -1) if kept is None else kept[part]
                grad = chances.mul(-grad_R[part, None])
                grad.scatter_add_(-1, labels[part, None], grad_R[part, None].to(wide))
                narrow = grad.to(kind)
                if grad_hidden is not None:
                    grad_hidden[part] = product(narrow, w).to(hidden.dtype)
                if grad_weight is not None:
                    grad_weight += product(narrow.t(), h[part])
                if grad_bias is not None:
                    grad_bias += grad.sum(0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None,
            None,
        )


def _logits(h: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, wide: torch.dtype) -> torch.Tensor:
    logits = product(h, w.t())
    return (logits if b is None else logits.add_(b)).to(wide)


def _tiles(rows: int, row_bytes: int, device: str) -> list[slice]:
    size = max(_FEWEST_ROWS, _TILE_BYTES.get(device, _TILE_BYTES["cuda"]) // row_bytes)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _fill(
    extras: dict[str, torch.Tensor],
    part: slice,
    logits: torch.Tensor,
    chances: torch.Tensor,
    log_sum: torch.Tensor,
    is_top1: torch.Tensor,
) -> None:
    if "entropy" in extras:
        extras["entropy"][part] = log_sum - torch.linalg.vecdot(chances, logits)
    if "log_sum_sq_probs" in extras:
        extras["log_sum_sq_probs"][part] = torch.linalg.vecdot(chances, chances).log()
    if "is_top1" in extras:
        extras["is_top1"][part] = is_top1
