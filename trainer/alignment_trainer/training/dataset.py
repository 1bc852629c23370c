"""The chosen sides as a data set for the warm start, and the slice on which the checkpoint is chosen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from alignment_trainer.data.rows import Kind, Pair, Text, tools_of

__all__ = ["mostly_edits", "select_slice", "supervised_dataset"]

_SMALLEST_SLICE = 16
"""Fewer pairs than this choose a checkpoint by chance; then there is no slice and the last one counts."""


def mostly_edits(pairs: list[Pair]) -> bool:
    """True when more than half of the pairs are edits."""
    return 2 * sum(pair.kind is Kind.EDIT for pair in pairs) > len(pairs)


def select_slice(pairs: list[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and those set apart to choose the checkpoint; groups stay whole, the gate's holdout untouched."""
    apart = [pair for pair in pairs if _uniform(pair.group or pair.conversation) < fraction]
    if len(apart) < _SMALLEST_SLICE:
        return pairs, []
    chosen = {pair.pair_id for pair in apart}
    return [pair for pair in pairs if pair.pair_id not in chosen], apart


def supervised_dataset(pairs: list[Pair]) -> Any:
    """``datasets.Dataset`` with prompt and completion, the chosen side."""
    from datasets import Dataset

    # As JSON: tools differ in shape from pair to pair, and a column of the data set has one.
    return Dataset.from_list(
        [
            {"prompt": _bare(p.prompt), "completion": p.chosen, "tools": json.dumps(tools_of(p.prompt))}
            for p in pairs
        ]
    )


def _bare(prompt: Text) -> Text:
    """A prompt without the tools in its first message."""
    if isinstance(prompt, str) or tools_of(prompt) is None:
        return prompt
    first = {name: value for name, value in prompt[0].items() if name != "tools"}
    return [first, *prompt[1:]]


def _uniform(key: str) -> float:
    return (
        int.from_bytes(hashlib.blake2b(b"selection:" + key.encode(), digest_size=8).digest(), "big") / 2**64
    )
