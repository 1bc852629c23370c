"""Lays a batch of pairs out without padding and without repeating what both sides of a pair have in common.

One pair becomes two segments of one long row::

    prompt + chosen, without its last token    |  rejected from the common prefix on, without its last token
    positions 0 … A-1                          |  positions S … S+B-1, attends to the first S tokens of its pair too

The last token of a side predicts nothing and is left out. Called in the collator; knows nothing of models. P pairs, L padded length, T packed tokens, R scored rows, N scored tokens of TRL's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

__all__ = ["PackedBatch", "Segment", "common_prefix", "pack"]


class Segment(NamedTuple):
    """Packed tokens ``start … end-1``: causal among themselves, and after all of ``prefix_start … prefix_end-1``."""

    start: int
    end: int
    prefix_start: int
    prefix_end: int


@dataclass(frozen=True)
class PackedBatch:
    """A packed batch, and how its rows go back to TRL's shape.

    rows_R: packed token whose hidden state is scored; labels_R: token that it must predict. Each distinct
    (position, label) is one row, also when both sides use it. rows_of_N, places_N: row of each scored token, and its
    index in the flattened (2P, L-1) shape, chosen sides first. shape: (2P, L-1).
    """

    ids_T: torch.Tensor
    positions_T: torch.Tensor
    rows_R: torch.Tensor
    labels_R: torch.Tensor
    rows_of_N: torch.Tensor
    places_N: torch.Tensor
    segments: tuple[Segment, ...]
    shape: tuple[int, int]

    def to(self, device: Any, *, non_blocking: bool = False) -> PackedBatch:
        """The same batch with its tensors on ``device``; accelerate and the data loader call this."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory; the data loader calls this."""
        return self._each(torch.Tensor.pin_memory)

    def spread(self, values_R: torch.Tensor) -> torch.Tensor:
        """Per-row values in TRL's padded (2P, L-1) shape, zero where nothing is scored."""
        rows, columns = self.shape
        flat = values_R.new_zeros(rows * columns)
        return flat.index_copy(0, self.places_N, values_R.index_select(0, self.rows_of_N)).view(rows, columns)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PackedBatch:
        tensors: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)


def common_prefix(chosen_PL: torch.Tensor, rejected_PL: torch.Tensor, limit_P: torch.Tensor) -> torch.Tensor:
    """Length of the common prefix of each pair's token ids, at most ``limit_P``; shape (P,)."""
    within_PL = torch.arange(chosen_PL.shape[1])[None] < limit_P[:, None]
    return ((chosen_PL == rejected_PL) & within_PL).long().cumprod(1).sum(1)


def pack(input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_mask: torch.Tensor) -> PackedBatch:
    """Pack a batch of TRL's collator: three (2P, L) tensors, padded on the right, chosen sides first."""
    chosen_PL, rejected_PL = input_ids.chunk(2)
    lengths = attention_mask.sum(1)
    chosen_P, rejected_P = (lengths - 1).clamp(min=0).chunk(2)
    shared_P = common_prefix(chosen_PL, rejected_PL, torch.minimum(chosen_P, rejected_P))
    tail_P = rejected_P - shared_P
    sizes_P = chosen_P + tail_P
    starts_P = sizes_P.cumsum(0) - sizes_P
    index_L = torch.arange(input_ids.shape[1])[None]
    # Where token j of each side lies in the packed row; the rejected side's first S tokens are the chosen side's.
    at_chosen_PL = starts_P[:, None] + index_L
    at_tail_PL = at_chosen_PL + (chosen_P - shared_P)[:, None]
    is_chosen_PL = index_L < chosen_P[:, None]
    is_tail_PL = (index_L >= shared_P[:, None]) & (index_L < rejected_P[:, None])
    # A batch without any token to run (answers of one token after nothing) still runs one, which nobody reads.
    total = max(1, int(sizes_P.sum()))
    ids_T = input_ids.new_zeros(total)
    positions_T = input_ids.new_zeros(total)
    positions_PL = index_L.expand_as(chosen_PL)
    for at_PL, present_PL, side_PL in (
        (at_chosen_PL, is_chosen_PL, chosen_PL),
        (at_tail_PL, is_tail_PL, rejected_PL),
    ):
        ids_T[at_PL[present_PL]] = side_PL[present_PL]
        positions_T[at_PL[present_PL]] = positions_PL[present_PL]
    scored = completion_mask[:, 1:].bool() & attention_mask[:, 1:].bool()
    scored_chosen, scored_rejected = scored.chunk(2)
    in_prefix = index_L[:, :-1] < shared_P[:, None]
    same = in_prefix & scored_chosen & scored_rejected & (chosen_PL[:, 1:] == rejected_PL[:, 1:])
    own = scored_rejected & ~same
    number_chosen = scored_chosen.flatten().cumsum(0).view_as(scored_chosen) - 1
    number_own = own.flatten().cumsum(0).view_as(own) - 1 + scored_chosen.sum()
    number_rejected = torch.where(same, number_chosen, number_own)
    at_rejected = torch.where(in_prefix, at_chosen_PL[:, :-1], at_tail_PL[:, :-1])
    return PackedBatch(
        ids_T=ids_T,
        positions_T=positions_T,
        rows_R=torch.cat([at_chosen_PL[:, :-1][scored_chosen], at_rejected[own]]),
        labels_R=torch.cat([chosen_PL[:, 1:][scored_chosen], rejected_PL[:, 1:][own]]),
        rows_of_N=torch.cat([number_chosen[scored_chosen], number_rejected[scored_rejected]]),
        places_N=scored.flatten().nonzero().squeeze(1),
        segments=_segments(starts_P.tolist(), chosen_P.tolist(), shared_P.tolist(), tail_P.tolist()),
        shape=(scored.shape[0], scored.shape[1]),
    )


def _segments(
    starts: list[int], chosen: list[int], shared: list[int], tail: list[int]
) -> tuple[Segment, ...]:
    segments = []
    for start, length, prefix, rest in zip(starts, chosen, shared, tail, strict=True):
        if length:
            segments.append(Segment(start, start + length, start, start))
        if rest:
            segments.append(Segment(start + length, start + length + rest, start, start + prefix))
    return tuple(segments) or (Segment(0, 1, 0, 0),)
