"""Attention over a packed row: each segment attends to itself causally, and to all of its prefix.

Three implementations of one function, registered with transformers under :data:`NAME`:

- ``sdpa_segments``: torch's scaled-dot-product attention, segment by segment. The oracle; works everywhere.
- ``block_segments``: matrix products over blocks of query rows, with its own backward that writes into one buffer.
  On CPU 2 to 4 times as fast: torch's causal CPU kernel is slow backwards, and slicing a packed row costs autograd
  one zero-filled copy of the whole row per slice.
- ``varlen_segments``: torch's variable-length flash attention (CUDA), where the numeric check accepts it.

H query heads, G key heads, T packed tokens, D head dimension.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

from alignment_trainer.training.prefix.packing import Segment

__all__ = [
    "NAME",
    "SegmentsLost",
    "backend_for",
    "block_segments",
    "choose_backend",
    "placeholder_mask",
    "register",
    "sdpa_segments",
    "varlen_segments",
]

_log = logging.getLogger(__name__)

NAME: Final = "prefix_shared"
Backend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, tuple[Segment, ...], float], torch.Tensor]
_BLOCK_ROWS: Final = 128
"""Query rows per block: bounds the scores held at once, and skips most of what causality masks."""
_KEPT_SCORES: Final = 1 << 24
"""Probabilities kept for the backward pass per layer, in elements; beyond, they are computed again."""


class SegmentsLost(RuntimeError):
    """A packed row came to a layer without its segments: plain attention would let every token see all pairs."""

    def __init__(self) -> None:
        super().__init__("the segments of a packed row did not reach its attention layers")


def placeholder_mask(device: torch.device) -> torch.Tensor:
    """What a packed row brings for a mask, which nobody reads; :func:`register`'s attention knows it by its size.

    A mask of four dimensions is handed through untouched; without one, transformers would build (T, T) from the
    restarting positions.
    """
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def register() -> None:
    """Make ``attn_implementation=NAME`` known: packed calls go to a backend, all others to plain SDPA.

    A packed call whose segments were lost on the way raises :class:`SegmentsLost`.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float | None = None,
        segments: tuple[Segment, ...] | None = None,
        segment_backend: Backend | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        if segments is None or segment_backend is None:
            if attention_mask is not None and attention_mask.shape[-1] == 1 < key.shape[2]:
                raise SegmentsLost
            out: tuple[torch.Tensor, None] = plain(
                module, query, key, value, attention_mask, scaling=scaling, **kwargs
            )
            return out
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        # Under autocast the rotary step leaves query and key in the weights' float32 beside a bfloat16 value. Plain
        # SDPA is on autocast's list and brings all three to one format; a function of our own has to do it itself.
        kind = query.device.type
        number_format = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
        query, key, value = (x.to(number_format) for x in (query, key, value))
        # Nothing to replace in here (``products``), and thousands of small calls to look at.
        with torch._C.DisableTorchFunction():
            return segment_backend(query, key, value, segments, scale), None

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)


def sdpa_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: tuple[Segment, ...],
    scale: float,
) -> torch.Tensor:
    """Attention of (1, H, T, D) queries to (1, G, T, D) keys and values; returns (1, T, H, D)."""
    outputs = []
    for start, end, prefix_start, prefix_end in segments:
        rows, before = end - start, prefix_end - prefix_start
        parts = [(prefix_start, prefix_end), (start, end)] if before else [(start, end)]
        keys, values = (torch.cat([x[:, :, a:b] for a, b in parts], 2) for x in (key, value))
        mask = (
            torch.ones(rows, before + rows, dtype=torch.bool, device=query.device).tril(before)
            if before
            else None
        )
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, start:end],
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(outputs, 2).transpose(1, 2).contiguous()


def block_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: tuple[Segment, ...],
    scale: float,
) -> torch.Tensor:
    """The same as :func:`sdpa_segments`, by blocks of query rows."""
    out: torch.Tensor = _BlockAttention.apply(query, key, value, segments, scale)
    return out


def varlen_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: tuple[Segment, ...],
    scale: float,
) -> torch.Tensor:
    """The same as :func:`sdpa_segments`, in one variable-length call (CUDA; bfloat16 or float16)."""
    from torch.nn.attention.varlen import varlen_attn

    layout = _layout(segments, query.device)
    # torch 2.11's kernel takes fewer key heads as they are; later ones want to be told.
    grouped: dict[str, Any] = (
        {"enable_gqa": True} if query.shape[1] != key.shape[1] and _asks_for_groups() else {}
    )
    out: Any = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1).index_select(0, layout.keys),
        value[0].transpose(0, 1).index_select(0, layout.keys),
        layout.query_ends,
        layout.key_ends,
        layout.longest_query,
        layout.longest_key,
        scale=scale,
        window_size=(-1, 0),
        **grouped,
    )
    mixed: torch.Tensor = out.unsqueeze(0)
    return mixed


def backend_for(config: Any, device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend that :func:`choose_backend` finds for a model's configuration."""
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return choose_backend(device, dtype, heads, key_heads, size)


def choose_backend(
    device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, size: int
) -> Backend:
    """The fastest implementation that agrees with plain SDPA here, forward and backward, on a small batch.

    heads, key_heads, size: the model's query heads, key heads and head dimension.
    """
    fast = block_segments if device.type == "cpu" else varlen_segments
    try:
        worst = _disagreement(fast, device, dtype, (heads, key_heads, size))
    except Exception as error:  # noqa: BLE001  a kernel that does not run here is one that is not used
        _log.info(
            "attention: %s does not run here (%s); using SDPA per segment",
            fast.__name__,
            type(error).__name__,
        )
        return sdpa_segments
    limit = 2e-2 if dtype in (torch.bfloat16, torch.float16) else 1e-4
    if not worst <= limit:
        _log.warning(
            "attention: %s differs from SDPA by %.2g (allowed %.2g); using SDPA per segment",
            fast.__name__,
            worst,
            limit,
        )
        return sdpa_segments
    return fast


def _disagreement(
    backend: Backend, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]
) -> float:
    """Largest difference to SDPA in float32 over output and gradients, relative to the largest value."""
    heads, key_heads, size = shape
    segments = (
        Segment(0, 150, 0, 0),
        Segment(150, 190, 0, 90),
        Segment(190, 191, 190, 190),
        Segment(191, 200, 190, 191),
    )
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, count, 200, size, generator=generator).to(device, dtype)
        for count in (heads, key_heads, key_heads)
    ]
    weight = torch.randn(1, 200, heads, size, generator=generator).to(device)
    results = []
    for run, kind in ((backend, dtype), (sdpa_segments, torch.float32)):
        q, k, v = (x.to(kind).requires_grad_() for x in inputs)
        out = run(q, k, v, segments, size**-0.5)
        gradients = torch.autograd.grad((out.float() * weight).sum(), (q, k, v))
        results.append([out.float().detach(), *(g.float() for g in gradients)])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*results, strict=True))


class _BlockAttention(torch.autograd.Function):
    """Softmax attention by blocks of query rows, float32 scores where inputs are in half precision."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        segments: tuple[Segment, ...],
        scale: float,
    ) -> torch.Tensor:
        q, k, v = query[0], key[0], value[0]
        out = q.new_empty(q.shape[1], q.shape[0], v.shape[-1])
        wanted = any(ctx.needs_input_grad[:3])
        keep = wanted and _scores(segments) * q.shape[0] <= _KEPT_SCORES
        kept = []
        with torch.autocast(q.device.type, enabled=False):
            for segment, blocks in _blocks(segments):
                keys, values = _gather(k, segment), _gather(v, segment)
                for first, last in blocks:
                    width = segment.prefix_end - segment.prefix_start + last - segment.start
                    chances = _probabilities(q[:, first:last], keys[:, :width], scale)
                    mixed = torch.bmm(chances, values[:, :width])
                    out[first:last] = mixed.view(q.shape[0], last - first, -1).transpose(0, 1)
                    if keep:
                        kept.append(chances)
        ctx.segments, ctx.scale = segments, scale
        if wanted:
            ctx.save_for_backward(query, key, value, out, *kept)
        return out.unsqueeze(0)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        query, key, value, out, *kept = ctx.saved_tensors
        q, k, v, grad = query[0], key[0], value[0], grad[0]
        heads, groups = q.shape[0], k.shape[0]
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros_like(k), torch.zeros_like(v)
        delta = (grad * out).sum(-1)  # (T, H): what the softmax's normalisation takes back
        number = 0
        with torch.autocast(q.device.type, enabled=False):
            for segment, blocks in _blocks(ctx.segments):
                keys, values = _gather(k, segment), _gather(v, segment)
                grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
                for first, last in blocks:
                    rows = last - first
                    width = segment.prefix_end - segment.prefix_start + last - segment.start
                    q_block = q[:, first:last].reshape(groups, -1, q.shape[-1])
                    g_block = grad[first:last].transpose(0, 1).reshape(groups, -1, grad.shape[-1])
                    if kept:
                        chances = kept[number]
                        number += 1
                    else:
                        chances = _probabilities(q[:, first:last], keys[:, :width], ctx.scale)
                    grad_values[:, :width].baddbmm_(chances.transpose(1, 2), g_block)
                    slope = torch.bmm(g_block, values[:, :width].transpose(1, 2))
                    slope.sub_(delta[first:last].t().reshape(groups, -1, 1)).mul_(chances).mul_(ctx.scale)
                    grad_q[:, first:last] = torch.bmm(slope, keys[:, :width]).view(heads, rows, -1)
                    grad_keys[:, :width].baddbmm_(slope.transpose(1, 2), q_block)
                _scatter(grad_k, segment, grad_keys)
                _scatter(grad_v, segment, grad_values)
        return grad_q.unsqueeze(0), grad_k.unsqueeze(0), grad_v.unsqueeze(0), None, None


def _probabilities(q_block: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention of (H, n, D) queries to (G, m, D) keys, the last n of which are the queries' own; (G, H/G·n, m)."""
    groups, rows, width = keys.shape[0], q_block.shape[1], keys.shape[1]
    scores = torch.bmm(q_block.reshape(groups, -1, q_block.shape[-1]), keys.transpose(1, 2))
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    scores.mul_(scale)
    later = torch.ones(rows, rows, dtype=torch.bool, device=keys.device).triu_(1)
    scores.view(groups, -1, rows, width)[..., width - rows :].masked_fill_(later, float("-inf"))
    return torch.softmax(scores, -1, dtype=scores.dtype).to(keys.dtype)


def _blocks(segments: Sequence[Segment]) -> Iterator[tuple[Segment, list[tuple[int, int]]]]:
    for segment in segments:
        cuts = range(segment.start, segment.end, _BLOCK_ROWS)
        yield segment, [(first, min(first + _BLOCK_ROWS, segment.end)) for first in cuts]


def _scores(segments: Sequence[Segment]) -> int:
    return sum(
        (last - first) * (segment.prefix_end - segment.prefix_start + last - segment.start)
        for segment, blocks in _blocks(segments)
        for first, last in blocks
    )


def _gather(x: torch.Tensor, segment: Segment) -> torch.Tensor:
    own = x[:, segment.start : segment.end]
    if segment.prefix_start == segment.prefix_end:
        return own
    return torch.cat([x[:, segment.prefix_start : segment.prefix_end], own], 1)


def _scatter(total: torch.Tensor, segment: Segment, part: torch.Tensor) -> None:
    before = segment.prefix_end - segment.prefix_start
    total[:, segment.prefix_start : segment.prefix_end] += part[:, :before]
    total[:, segment.start : segment.end] += part[:, before:]


class _Layout(NamedTuple):
    """Segments as a variable-length kernel wants them, on its device.

    keys: for each segment in turn, the tokens of its prefix, then its own. query_ends, key_ends: running totals from 0.
    """

    keys: torch.Tensor
    query_ends: torch.Tensor
    key_ends: torch.Tensor
    longest_query: int
    longest_key: int


@functools.lru_cache(maxsize=2)
def _layout(segments: tuple[Segment, ...], device: torch.device) -> _Layout:
    """Once per micro-batch, not once per layer: each of its copies to the device makes the host wait."""
    rows = [s.end - s.start for s in segments]
    widths = [s.end - s.start + s.prefix_end - s.prefix_start for s in segments]
    # Keys are gathered per segment, prefix first. The causal diagonal ends at the bottom right, so that the last
    # query sees every key: flash attention's rule since 2.1, and what choose_backend's check is there to find out.
    with torch.inference_mode(mode=False):  # what is kept may be asked for again where gradients are wanted
        spans = [part for s in segments for part in ((s.prefix_start, s.prefix_end), (s.start, s.end))]
        keys = torch.cat([torch.arange(*span) for span in spans]).to(device)
        query_ends, key_ends = (
            torch.tensor([0, *lengths]).cumsum(0).int().to(device) for lengths in (rows, widths)
        )
    return _Layout(keys, query_ends, key_ends, max(rows), max(widths))


@functools.cache
def _asks_for_groups() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters
