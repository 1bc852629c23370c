"""Near-identical prompts across the split: MinHash over word triples, with what all prompts share left out.

Jaccard similarity of the sets of word triples, estimated from 64 minima (standard error 0.05 at 0.8) and looked up by
16 bands of 4: a pair whose estimate is 0.8 shares a band with a probability of 0.9998. Triples that more than a tenth of the prompts contain are the
product's prompt template; with them every two prompts would be near-identical, so they do not count.

Computed on whole batches with numpy; docs/adr has the measurement against the libraries.
"""

from __future__ import annotations

import heapq
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from alignment_trainer.data.spill import hash64

__all__ = ["SIMILARITY", "NearIndex", "TemplateSample", "shingles"]

SIMILARITY: Final = 0.8
"""Prompts at least this similar are near-identical. One changed word in thirty leaves 0.82."""
_MINIMA: Final = 64
_BANDS: Final = 16
_CANDIDATES: Final = 64
"""Prompts compared with a prompt by each band; a family of more is alike enough to be met by its first ones."""
_SAMPLE: Final = 2048
_TEMPLATE_SHARE: Final = 0.1
_WORDS: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\\W_]+")
"""Words; of scripts that do not separate them, single characters."""
_ASCII_WORDS: Final = bytes(
    c + 32 if 65 <= c <= 90 else c if chr(c).isalnum() and c < 128 else 32 for c in range(256)
)
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_HALF: Final = np.uint64(32)
_random = np.random.Generator(np.random.PCG64(20261))
_FACTORS: Final = _random.integers(0, 2**63, _MINIMA, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS: Final = _random.integers(0, 2**63, _MINIMA, dtype=np.uint64)
_NOTHING: Final = np.zeros(0, dtype=np.uint64)


def shingles(text: str) -> Any:
    """Hashes of a text's word triples, sorted, each once; of shorter texts the one hash of their words."""
    if text.isascii():
        words = text.encode().translate(_ASCII_WORDS).split()
    else:
        words = [word.encode() for word in _WORDS.findall(text.lower())]
    if not words:
        return _NOTHING
    codes = np.fromiter(map(zlib.crc32, words), dtype=np.uint64, count=len(words))
    if len(codes) < 3:
        codes = np.resize(codes, 3)
    mixed = codes[:-2] * _MIX[0] + codes[1:-1] * _MIX[1] + codes[2:] * _MIX[2]
    mixed ^= mixed >> _HALF
    return np.unique(mixed)


class TemplateSample:
    """Learns from a sample of prompts which triples belong to the template.

    The sample is the prompts with the smallest hashes, so it depends on which prompts there are and not on their order.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._members: set[int] = set()

    def add(self, question: str) -> None:
        """Take note of a prompt."""
        key = -hash64(question)
        if len(self._heap) == _SAMPLE and key <= self._heap[0][0]:
            return
        if key in self._members:
            return
        self._members.add(key)
        if len(self._heap) < _SAMPLE:
            heapq.heappush(self._heap, (key, question))
        else:
            self._members.discard(heapq.heapreplace(self._heap, (key, question))[0])

    def template(self) -> Any:
        """Hashes of the triples that do not count, sorted. In small samples at least three prompts must share one."""
        counts: Counter[int] = Counter()
        for _, question in self._heap:
            counts.update(shingles(question).tolist())
        limit = max(2.0, _TEMPLATE_SHARE * len(self._heap))
        found = sorted(code for code, count in counts.items() if count > limit)
        return np.array(found, dtype=np.uint64)


class NearIndex:
    """Prompts of one side, to ask which prompts of the other are near-identical to one of them."""

    def __init__(self, template: Any) -> None:
        self._template = template
        self._batches: list[Any] = []
        self._signatures: Any = None
        self._bands: list[tuple[Any, Any]] = []

    def add(self, questions: Sequence[str]) -> None:
        """Take in prompts."""
        signatures, _ = self._signed(questions)
        if len(signatures):
            self._batches.append(signatures)

    def finish(self) -> None:
        """No more prompts come."""
        empty = np.zeros((0, _MINIMA), dtype=np.uint32)
        self._signatures = np.unique(np.concatenate([empty, *self._batches]), axis=0)
        self._batches.clear()
        for keys in _band_keys(self._signatures):
            order = np.argsort(keys, kind="stable")
            self._bands.append((keys[order], order))

    def near(self, questions: Sequence[str]) -> list[bool]:
        """Whether each prompt is near-identical to one of the index."""
        out = np.zeros(len(questions), dtype=bool)
        signatures, which = self._signed(questions)
        if not len(signatures) or not len(self._signatures):
            return list(out)
        hits = np.zeros(len(signatures), dtype=bool)
        for keys, (known, order) in zip(_band_keys(signatures), self._bands, strict=True):
            left = np.searchsorted(known, keys, "left")
            right = np.searchsorted(known, keys, "right")
            for offset in range(_CANDIDATES):
                rows = np.flatnonzero((left + offset < right) & ~hits)
                if not len(rows):
                    break
                others = order[left[rows] + offset]
                alike = (signatures[rows] == self._signatures[others]).mean(axis=1)
                hits[rows] = alike >= SIMILARITY
        out[which] = hits
        return list(out)

    def _signed(self, questions: Sequence[str]) -> tuple[Any, Any]:
        """Signatures of the prompts that hold anything of their own, and which those are."""
        sets, which = [], []
        for number, question in enumerate(questions):
            own = shingles(question)
            if len(self._template):
                own = own[self._template[np.searchsorted(self._template[:-1], own)] != own]
            if len(own):
                sets.append(own)
                which.append(number)
        if not sets:
            return np.zeros((0, _MINIMA), dtype=np.uint32), which
        starts = np.cumsum([0, *(len(own) for own in sets[:-1])])
        codes = np.concatenate(sets)
        out = np.empty((_MINIMA, len(sets)), dtype=np.uint32)
        for number in range(_MINIMA):
            hashed = ((codes * _FACTORS[number] + _OFFSETS[number]) >> _HALF).astype(np.uint32)
            out[number] = np.minimum.reduceat(hashed, starts)
        return out.T.copy(), which


def _band_keys(signatures: Any) -> list[Any]:
    wide = signatures.astype(np.uint64).reshape(len(signatures), _BANDS, _MINIMA // _BANDS)
    keys = np.zeros((len(signatures), _BANDS), dtype=np.uint64)
    for column in range(wide.shape[2]):
        keys = (keys ^ wide[:, :, column]) * _MIX[0] + _MIX[1]
        keys ^= keys >> _HALF
    return [keys[:, band] for band in range(_BANDS)]
