"""The divergence of two models on given answers: exact, never negative, the same however it is cut into pieces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from alignment_api.metrics import MetricName
from alignment_trainer.evaluation import divergence as module
from alignment_trainer.evaluation import scoring
from alignment_trainer.evaluation.divergence import compare, divergence
from alignment_trainer.evaluation.material import Drift
from alignment_trainer.evaluation.metrics import measure
from alignment_trainer.evaluation.scoring import score
from support.material import material

few = settings(max_examples=60, deadline=None)
PAD = 0
SEQUENCES = [([5, 9, 3, 7, 2], 2), ([8, 8, 1], 1), ([4] * 12 + [6, 2], 11), ([3, 2], 2)]

logits = st.lists(st.lists(st.floats(-60, 60, width=32), min_size=7, max_size=7), min_size=2, max_size=2).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32)
)


def model(seed: int, *, tokens: int = 11) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def by_hand(first: Any, second: Any, ids: list[int], start: int) -> float:
    """The definition, one position and one token at a time, in float64."""
    total = 0.0
    with torch.inference_mode():
        ours = first(input_ids=torch.tensor([ids])).logits[0].double().softmax(-1)
        theirs = second(input_ids=torch.tensor([ids])).logits[0].double().softmax(-1)
    for position in range(start, len(ids)):
        total += sum(
            float(p) * math.log(float(p) / float(q))
            for p, q in zip(ours[position - 1], theirs[position - 1], strict=True)
        )
    return total


@few
@given(logits, logits)
def test_it_is_never_negative_and_agrees_with_the_definition(first: Any, second: Any) -> None:
    found = divergence(first, second)
    p, q = first.double().log_softmax(-1), second.double().log_softmax(-1)
    wanted = (p.exp() * (p - q)).sum(-1)
    assert (found >= 0).all()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@few
@given(logits)
def test_equal_logits_have_none(some: Any) -> None:
    assert divergence(some, some.clone()).tolist() == [0.0, 0.0]


@few
@given(logits, st.floats(-50, 50))
def test_logits_that_differ_by_a_constant_have_next_to_none(some: Any, constant: float) -> None:
    assert float(divergence(some, some + constant).max()) < 1e-4


def test_a_token_that_the_first_model_never_chooses_adds_nothing() -> None:
    first = torch.tensor([[0.0, 0.0, -math.inf]])
    second = torch.tensor([[0.0, 0.0, 0.0]])
    assert float(divergence(first, second)) == pytest.approx(math.log(3 / 2))


def test_small_differences_of_large_vocabularies_are_not_lost_in_rounding() -> None:
    torch.manual_seed(0)
    first = 3 * torch.randn(4, 50_000)
    second = first + 0.003 * torch.randn(4, 50_000)
    p, q = first.double().log_softmax(-1), second.double().log_softmax(-1)
    wanted = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(divergence(first, second), wanted, rtol=0.05, atol=0)


@pytest.mark.parametrize(("per_batch", "at_once"), [(2**28, 2**25), (60, 25), (1, 1)])
def test_two_models_are_compared_where_the_answers_tokens_are_chosen(
    monkeypatch: pytest.MonkeyPatch, per_batch: int, at_once: int
) -> None:
    """However the sequences are put into batches and the positions into pieces."""
    monkeypatch.setattr(scoring, "_LOGITS_PER_BATCH", per_batch)
    monkeypatch.setattr(module, "_LOGITS_AT_ONCE", at_once)
    first, second = model(0), model(1)
    done: list[int] = []
    found = compare(first, second, SEQUENCES, PAD, done.append)
    wanted = [by_hand(first, second, ids, start) for ids, start in SEQUENCES]
    assert found.divergences == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert min(wanted[:3]) > 0.01
    assert found.divergences[3] == 0, "an empty answer has no positions"
    assert found.second_logps == pytest.approx(
        score(second, SEQUENCES, PAD, lambda _: None).logps, rel=1e-5, abs=1e-6
    )
    assert done[-1] == len(SEQUENCES)


def test_a_model_compared_with_itself_has_moved_by_nothing() -> None:
    same = model(0)
    assert compare(same, same, SEQUENCES, PAD, lambda _: None).divergences.tolist() == [0.0] * 4


def test_vocabularies_of_other_sizes_make_the_metric_unavailable_and_nothing_else() -> None:
    found = compare(model(0), model(1, tokens=13), SEQUENCES, PAD, lambda _: None)
    assert np.isfinite(found.second_logps).all()
    of = material(40, drift=Drift(np.full(40, -10.0), np.full(40, np.nan)))
    told = measure(MetricName.KL_PER_TOKEN, of)
    assert told.estimate is None
    assert "vocabularies of candidate and champion differ" in str(told.message)
    assert measure(MetricName.FLUENCY_GAP, of).estimate is not None


def test_batches_shrink_with_the_vocabulary() -> None:
    lengths = [512] * 32
    assert max(len(batch) for batch in scoring.batches(lengths, 2_000)) == 32
    assert max(len(batch) for batch in scoring.batches(lengths, 128_000)) == 4
    assert scoring.batches(lengths, 10**9) == [[n] for n in range(32)], "one at a time if need be"
