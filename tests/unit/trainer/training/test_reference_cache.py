"""The reference cache: what was computed is found, what is damaged is computed again, writers do not disturb each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment_trainer.storage.registry import Stores
from alignment_trainer.training import reference
from alignment_trainer.training.reference import reference_values
from alignment_trainer.training.reference_cache import ReferenceCache, pair_key, scope_of


def examples(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"prompt_ids": [n, 1], "chosen_ids": [n, 2], "rejected_ids": [n, 3]}
        for n in range(first, first + count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return (tmp_path / "cache").as_uri() + "/"


@pytest.fixture
def cache(folder: str) -> ReferenceCache:
    return ReferenceCache(Stores()(folder), folder)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts that were computed, in order; their value is minus the first token."""
    seen: list[int] = []

    def compute(_trainer: Any, dataset: Any, indices: Any, _group: Any) -> Any:
        numbers = [dataset[int(i)]["prompt_ids"][0] for i in indices]
        seen.extend(numbers)
        return np.array([[-n, -2.0 * n] for n in numbers], dtype=float).reshape(-1, 2)

    monkeypatch.setattr(reference, "compute", compute)
    return seen


def values(cache: ReferenceCache, rows: list[dict[str, Any]]) -> Any:
    found, _cached = reference_values(None, rows, cache, maximum=64)
    return found


def test_a_new_cycle_computes_only_its_new_pairs(cache: ReferenceCache, computed: list[int]) -> None:
    values(cache, examples(0, 5))
    found = values(cache, examples(3, 6))
    assert computed == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert found.tolist() == [[-n, -2.0 * n] for n in range(3, 9)]


def test_a_damaged_segment_is_dropped_and_its_pairs_computed_again(
    cache: ReferenceCache, folder: str, computed: list[int]
) -> None:
    values(cache, examples(0, 4))
    (segment,) = Path(folder.removeprefix("file://")).glob("*.ref")
    content = bytearray(segment.read_bytes())
    content[20] ^= 1
    segment.write_bytes(bytes(content))
    found = values(cache, examples(0, 4))
    assert computed == [0, 1, 2, 3] * 2
    assert found.tolist() == [[-n, -2.0 * n] for n in range(4)]
    assert values(cache, examples(0, 4)).tolist() == found.tolist()
    assert len(computed) == 8


def test_concurrent_writers_lose_nothing(cache: ReferenceCache, computed: list[int]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: values(cache, examples(n, 20)), range(16)))
    before = len(computed)
    values(cache, examples(0, 35))
    assert len(computed) == before


def test_keys_that_end_in_zeros_are_told_apart(cache: ReferenceCache) -> None:
    keys = np.array([bytes([1] * 14 + end) for end in ([0, 0], [0, 1], [1, 0])], "S16")
    cache.add(keys[:2], np.array([[-1.0, -2.0], [-3.0, -4.0]]))
    found = cache.read(keys[[2, 1, 0, 1]])
    assert found[1:].tolist() == [[-3, -4], [-1, -2], [-3, -4]], "one pair may be there twice"
    assert np.isnan(found[0]).all()
    assert cache.read(keys[:0]).shape == (0, 2)


def test_a_key_holds_the_tokens_that_the_model_sees(cache: ReferenceCache) -> None:
    (one,) = examples(7, 1)
    assert pair_key(one, 64) == pair_key(dict(one), 64)
    assert pair_key(one, 64) != pair_key(one | {"rejected_ids": [7, 4]}, 64)
    assert pair_key(one, 64) != pair_key(one | {"prompt_ids": [7], "chosen_ids": [1, 7, 2]}, 64)
    assert pair_key(one, 3) == pair_key(one | {"chosen_ids": [7, 9, 9]}, 3)
    assert scope_of(model="a") != scope_of(model="b")
