"""Both sides of a pair through the forward that training uses: the numbers of the plain forward, for fewer tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment_api.spec import Engine, Precision
from alignment_trainer.evaluation.models import load_frozen
from alignment_trainer.evaluation.scoring import encode, score, score_sides
from alignment_trainer.models.fetch import LocalModel
from alignment_trainer.training.policy import load_tokenizer
from alignment_trainer.training.prefix.architectures import refusal
from alignment_trainer.training.prefix.packing import PackedBatch
from support.material import pair
from support.tiny import save_tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> LocalModel:
    save_tiny_model(tmp_path / "model")
    return LocalModel(folder=tmp_path / "model")


def sides(model: LocalModel) -> tuple[list[tuple[list[int], int]], list[tuple[list[int], int]], int]:
    tokenizer = load_tokenizer(model)
    pairs = [pair(number) for number in range(1, 300, 7)]
    chosen, rejected = (
        [encode(tokenizer, p.prompt, getattr(p, side), 90) for p in pairs] for side in ("chosen", "rejected")
    )
    # Cut inside the prompt (nothing to score), one token, and the same answer twice.
    ids, start = chosen[0]
    chosen += [(ids[: start - 2], start), (ids[: start + 1], start), (ids, start)]
    rejected += [(ids, start), (ids, start), (ids, start)]
    return chosen, rejected, tokenizer.pad_token_id


def tokens_through(loaded: Any) -> list[int]:
    seen: list[int] = []
    loaded.model.layers[0].input_layernorm.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    return seen


def test_sides_scored_together_equal_each_side_by_itself_without_trl(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("trl", *(name for name in sys.modules if name.startswith("trl."))):
        monkeypatch.setitem(sys.modules, name, None)  # its import fails
    loaded = load_frozen(model, Precision.FLOAT32)
    chosen, rejected, pad = sides(model)
    plain = [score(loaded, side, pad, lambda _done: None) for side in (chosen, rejected)]
    seen, told = tokens_through(loaded), list[int]()
    together = score_sides(loaded, chosen, rejected, pad, told.append)
    for one, other in zip(together, plain, strict=True):
        np.testing.assert_allclose(one.logps, other.logps, rtol=1e-5, atol=1e-5)
        assert one.tokens.tolist() == other.tokens.tolist()
    assert told[-1] == 2 * len(chosen)
    assert sum(seen) < 0.75 * sum(len(ids) for side in (chosen, rejected) for ids, _ in side)


def test_the_model_is_left_as_it_was(model: LocalModel) -> None:
    loaded = load_frozen(model, Precision.FLOAT32)
    chosen, rejected, pad = sides(model)
    ids = torch.tensor([chosen[0][0]])
    before = loaded(input_ids=ids).logits
    score_sides(loaded, chosen, rejected, pad, lambda _done: None)
    assert torch.equal(loaded(input_ids=ids).logits, before)


def test_a_model_for_which_sharing_is_not_exact_is_scored_side_by_side(model: LocalModel) -> None:
    loaded = load_frozen(model, Precision.FLOAT32)
    chosen, rejected, pad = sides(model)
    loaded.config.attention_dropout = 0.1
    assert refusal(loaded) is not None
    told: list[int] = []
    together = score_sides(loaded, chosen, rejected, pad, told.append)
    alone = [score(loaded, side, pad, lambda _done: None).logps for side in (chosen, rejected)]
    assert [one.logps.tolist() for one in together] == [logps.tolist() for logps in alone]
    assert told[-1] == 2 * len(chosen)


def test_asked_for_trl_no_pair_is_packed(model: LocalModel) -> None:
    loaded = load_frozen(model, Precision.FLOAT32)
    chosen, rejected, pad = sides(model)
    seen = tokens_through(loaded)
    score_sides(loaded, chosen, rejected, pad, lambda _done: None, engine=Engine.TRL)
    assert sum(seen) >= sum(len(ids) for side in (chosen, rejected) for ids, _ in side)


@pytest.mark.parametrize("wrong", ["places", "segments lost"])
def test_a_shared_forward_that_went_wrong_is_found_and_not_used(
    model: LocalModel, wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_frozen(model, Precision.FLOAT32)
    chosen, rejected, pad = sides(model)
    alone = [score(loaded, side, pad, lambda _done: None).logps for side in (chosen, rejected)]
    if wrong == "places":
        kept = PackedBatch.spread
        monkeypatch.setattr(PackedBatch, "spread", lambda self, values: kept(self, values).roll(1, -1))
    else:  # as if transformers no longer handed unknown arguments on to its layers
        decoder = loaded.model.forward
        loaded.model.forward = lambda *args, **kwargs: decoder(*args, **kwargs | {"segments": None})
    told: list[int] = []
    together = score_sides(loaded, chosen, rejected, pad, told.append)
    assert [one.logps.tolist() for one in together] == [logps.tolist() for logps in alone]
    assert told == sorted(told)
    assert told[-1] == 2 * len(chosen)
    (line,) = caplog.messages
    assert line.startswith("the prefix-shared forward differs from the model's own (")
