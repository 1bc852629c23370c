"""The split into train and holdout: a keyed hash of the group, so that a group keeps its side for ever.

The side depends on salt, fraction and the group's name alone: neither on other rows nor on their order, so new
data never moves what was there. Rows without a group are grouped by their conversation (the normalised first
user turn), because a prompt that continues another one would leak when split by the whole prompt.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from alignment_api.spec import GroupBy, HoldoutSpec
from alignment_trainer.data.rows import Pair

__all__ = ["Side", "group_key", "side_of"]


class Side(StrEnum):
    """The two sides."""

    TRAIN = "train"
    HOLDOUT = "holdout"


def group_key(pair: Pair, spec: HoldoutSpec) -> str:
    """What decides the pair's side: its group, else its conversation."""
    if spec.group_by is GroupBy.GROUP and pair.group:
        return f"group:{pair.group}"
    return "conversation:" + hashlib.sha256(pair.conversation.encode()).hexdigest()


def side_of(key: str, spec: HoldoutSpec) -> Side:
    """Side of a group: uniform in the keyed hash, held out below ``fraction``."""
    digest = hashlib.blake2b(
        key.encode(), key=hashlib.sha256(spec.salt.encode()).digest(), digest_size=8
    ).digest()
    uniform = int.from_bytes(digest, "big") / 2**64
    return Side.HOLDOUT if uniform < spec.fraction else Side.TRAIN
