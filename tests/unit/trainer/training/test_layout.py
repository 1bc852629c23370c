"""Segments as the variable-length kernel wants them: what each of them sees, and made once per micro-batch."""

from __future__ import annotations

import torch

from alignment_trainer.training.prefix.attention import _layout
from alignment_trainer.training.prefix.packing import Segment

SEGMENTS = (Segment(0, 5, 0, 0), Segment(5, 8, 0, 2), Segment(8, 9, 8, 8))


def test_each_segment_sees_its_prefix_and_then_itself() -> None:
    layout = _layout(SEGMENTS, torch.device("cpu"))
    assert layout.keys.tolist() == [0, 1, 2, 3, 4, *[0, 1], *[5, 6, 7], 8]
    assert layout.query_ends.tolist() == [0, 5, 8, 9]
    assert layout.key_ends.tolist() == [0, 5, 10, 11]
    assert (layout.longest_query, layout.longest_key) == (5, 5)
    assert layout.query_ends.dtype is layout.key_ends.dtype is torch.int32


def test_what_an_evaluation_asked_for_first_serves_a_training() -> None:
    _layout.cache_clear()
    with torch.inference_mode():
        first = _layout(SEGMENTS, torch.device("cpu"))
    assert not first.keys.is_inference()
    assert _layout(SEGMENTS, torch.device("cpu")) is first
