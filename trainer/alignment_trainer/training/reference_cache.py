"""Reference log-probabilities kept from cycle to cycle, in the artifacts: a new cycle computes only its new pairs.

One folder per reference (:func:`scope_of`), in it segments: files of fixed-size records that are never changed and are
named after the sha256 of their content. So writers cannot disturb each other, the same segment written twice is one
file, and a damaged one is found by its name, dropped, and its pairs are computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignment_trainer.storage import uris
from alignment_trainer.storage.store import ObjectStore

__all__ = ["ReferenceCache", "pair_key", "pair_keys", "scope_of"]

_log = logging.getLogger(__name__)
_KEY: Final = "S16"
"""numpy's byte strings are compared as if zeros at their end were not there: of equal length, they differ all the same."""
_RECORD: Final = np.dtype([("key", _KEY), ("chosen", "<f8"), ("rejected", "<f8")])
_SUFFIX: Final = ".ref"


def scope_of(**parts: str) -> str:
    """Name of a reference's folder: 32 hex digits over everything that a log-probability depends on but the pair.

    parts: digests of model and adapter, of tokenizer and template; number formats of weights and passes, forward and libraries.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def pair_key(example: Mapping[str, Any], maximum: int) -> bytes:
    """16 bytes of a sha256 over the token ids of a pair as the model sees them, cut to ``maximum`` tokens."""
    prompt = example["prompt_ids"]
    digest = hashlib.sha256(len(prompt).to_bytes(8, "little"))
    for side in ("chosen_ids", "rejected_ids"):
        ids = np.asarray([*prompt, *example[side]][:maximum], dtype="<i8")
        digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
    return digest.digest()[:16]


def pair_keys(examples: Iterable[Mapping[str, Any]], maximum: int) -> NDArray[np.bytes_]:
    """The keys of pairs, 16 bytes each."""
    return np.fromiter((pair_key(example, maximum) for example in examples), _KEY)


class ReferenceCache:
    """The segments of one reference. folder: its URI, ending in ``/``."""

    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store = store
        self._folder = folder

    def read(self, keys: NDArray[np.bytes_]) -> NDArray[np.float64]:
        """(len(keys), 2) log-probabilities of chosen and rejected answers, nats; NaN where a key is not known."""
        if not len(keys):
            return np.empty((0, 2))
        wanted, places = np.unique(keys, return_inverse=True)
        found = np.full((len(wanted), 2), np.nan)
        for info in self._store.list(self._folder):
            if not info.uri.endswith(_SUFFIX):
                continue
            data, _ = self._store.get(info.uri)
            if info.uri != self._uri(data) or len(data) % _RECORD.itemsize:
                _log.warning("reference cache: %s is damaged; its pairs are computed again", info.uri)
                self._store.delete(info.uri)
                continue
            records = np.frombuffer(data, _RECORD)
            at = np.searchsorted(wanted, records["key"]).clip(max=len(wanted) - 1)
            hits = wanted[at] == records["key"]
            found[at[hits], 0], found[at[hits], 1] = records["chosen"][hits], records["rejected"][hits]
        return found[places]

    def add(self, keys: NDArray[np.bytes_], values: NDArray[np.float64]) -> None:
        """Keep (len(keys), 2) values."""
        records = np.zeros(len(keys), _RECORD)
        records["key"], records["chosen"], records["rejected"] = keys, values[:, 0], values[:, 1]
        data = np.sort(records, order=["chosen", "rejected"]).tobytes()
        self._store.put(self._uri(data), data)

    def _uri(self, data: bytes) -> str:
        return uris.join(self._folder, hashlib.sha256(data).hexdigest()[:40] + _SUFFIX)
