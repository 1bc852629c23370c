"""The default schedule: 500 pairs are enough steps, rates follow the width, beta follows what decides; explicit values stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alignment_api.spec import TrainingSpec
from alignment_trainer.training.schedule import Schedule, checkpoint_steps, log_steps, make_schedule
from alignment_trainer.training.traits import Traits, read_traits
from support.material import pair
from support.tiny import save_tiny_tokenizer


def schedule(
    pairs: int = 500,
    *,
    edits: bool = False,
    width: int | None = 4096,
    differing: float | None = 100.0,
    **spec: object,
) -> Schedule:
    return make_schedule(TrainingSpec.model_validate(spec), Traits(pairs, edits, width, differing))


@pytest.mark.parametrize("pairs", [20, 100, 500, 5_000])
def test_there_are_fifty_steps_where_the_pairs_allow_it(pairs: int) -> None:
    plan = schedule(pairs)
    assert plan.steps >= 50
    assert plan.pairs_per_step <= 16
    assert plan.epochs == 3


def test_rates_are_the_published_ones_at_their_width_and_rise_below_it() -> None:
    assert schedule(lora={}).learning_rate == 1e-4
    assert schedule().learning_rate == 1e-6
    assert schedule(width=256, lora={}).learning_rate == 4e-4, "the square root of the width"
    assert schedule(width=256).learning_rate == 1.6e-5, "the width"
    for lora in ({"lora": {}}, {}):
        rates = [schedule(width=width, **lora).learning_rate for width in (64, 896, 4096, 8192)]
        assert rates == sorted(rates, reverse=True)
        assert len(set(rates)) == 4


def test_a_width_that_is_not_known_counts_as_4096() -> None:
    assert schedule(width=None, lora={}) == schedule(width=4096, lora={})


def test_what_the_spec_sets_is_taken_as_it_is() -> None:
    plan = schedule(
        width=64, differing=3, learningRate=7e-5, beta=0.1, epochs=1, warmStart={"learningRate": 3e-5}
    )
    assert (plan.learning_rate, plan.beta, plan.epochs) == (7e-5, 0.1, 1)
    assert plan.warm_start_learning_rate == 3e-5


@pytest.mark.parametrize(
    ("differing", "beta"), [(None, 0.1), (1000, 0.1), (80, 0.1), (16, 0.5), (8, 1.0), (1, 1.0), (0, 1.0)]
)
def test_the_fewer_tokens_decide_the_stronger_the_pull(differing: float | None, beta: float) -> None:
    assert schedule(differing=differing).beta == beta


@pytest.mark.parametrize("loss", ["ipo", "sigmoid_norm"])
def test_losses_per_token_do_not_take_beta_from_the_number_of_tokens(loss: str) -> None:
    assert schedule(differing=4, loss=loss).beta == 0.1


@pytest.mark.parametrize(
    ("config", "width"),
    [
        ({"hidden_size": 896}, 896),
        ({"n_embd": 768}, 768),
        ({"text_config": {"hidden_size": 2560}}, 2560),
        ({"hidden_size": "wide"}, None),
        ({}, None),
    ],
)
def test_the_width_is_read_from_the_configuration(config: dict[str, object], width: int | None) -> None:
    files = {"config.json": json.dumps(config).encode()}
    assert read_traits([pair(1)], files.get).width == width


def test_differing_tokens_are_counted_with_the_models_tokenizer(tmp_path: Path) -> None:
    save_tiny_tokenizer(tmp_path)
    files = {"tokenizer.json": (tmp_path / "tokenizer.json").read_bytes()}
    edits = [replace(pair(n), chosen="since Monday", rejected="since Sunday") for n in range(3)]
    assert read_traits(edits, files.get).differing_tokens == 2, "a token is a byte here"
    said = [
        replace(
            pair(n),
            prompt=[{"role": "user", "content": "?"}],
            chosen=[{"role": "assistant", "content": "yes"}],
            rejected=[{"role": "assistant", "content": "yesterday"}],
        )
        for n in range(3)
    ]
    assert read_traits(said, files.get).differing_tokens == 6


def test_the_curve_does_not_grow_with_the_data_and_checkpoints_stand_on_its_entries() -> None:
    for steps in [1, 6, 99, 999, 1_000, 1_999, 2_345, 20_001, 1_234_567]:
        every = log_steps(steps)
        assert steps // every <= 2_000
        assert every == 1 or steps > 1_000, "up to a thousand steps each one is noted"
        assert checkpoint_steps(steps) % every == 0
        assert 10 <= steps // checkpoint_steps(steps) <= 12 or steps < 100
