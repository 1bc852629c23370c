"""What the default settings go by besides the spec: how many pairs, how wide the model, how much the answers differ.

Reads a model's ``config.json`` and ``tokenizer.json``, not its weights, so that ``align run --plan`` shows the same
schedule as the train stage uses.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from alignment_trainer.data.rows import Pair, Text
from alignment_trainer.training.dataset import Part, mostly_edits

__all__ = ["Traits", "read_traits"]

_WIDTHS: Final = ("hidden_size", "n_embd", "d_model", "dim")
"""Names that models give their width, the usual one first."""
_ENOUGH_PAIRS: Final = 500
"""A median does not get better from more."""


@dataclass(frozen=True)
class Traits:
    """pairs: to train on. edits: most of them are. width: the model's, None where its configuration does not say.

    differing_tokens: median number of tokens by which the two answers of a pair differ (Levenshtein), None without pairs.
    """

    pairs: int
    edits: bool
    width: int | None
    differing_tokens: float | None


def read_traits(pairs: Part | list[Pair], read: Callable[[str], bytes | None]) -> Traits:
    """read: content of a file of the model's folder by name, or None (of an adapter, of its base)."""
    config = json.loads(read("config.json") or b"{}")
    return Traits(
        pairs=len(pairs),
        edits=mostly_edits(pairs),
        width=_width(config),
        differing_tokens=_differing_tokens(pairs, read("tokenizer.json")),
    )


def _width(config: dict[str, Any]) -> int | None:
    """The width of the text model; of one that also sees or hears, it stands in ``text_config``."""
    for part in (config, config.get("text_config") or {}):
        for name in _WIDTHS:
            if isinstance(part.get(name), int) and part[name] > 0:
                return int(part[name])
    return None


def _differing_tokens(pairs: Part | list[Pair], tokenizer_json: bytes | None) -> float | None:
    from rapidfuzz.distance import Levenshtein
    from tokenizers import Tokenizer

    if not pairs or tokenizer_json is None:
        return None
    tokenizer = Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    some = itertools.islice(pairs, 0, None, max(1, len(pairs) // _ENOUGH_PAIRS))
    return statistics.median(
        Levenshtein.distance(
            *(tokenizer.encode(_plain(side), add_special_tokens=False).ids for side in (p.chosen, p.rejected))
        )
        for p in some
    )


def _plain(text: Text) -> str:
    """The words of an answer, without a chat template's."""
    return text if isinstance(text, str) else "\n".join(str(message.get("content", "")) for message in text)
