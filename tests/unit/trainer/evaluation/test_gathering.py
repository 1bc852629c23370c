"""What is gathered from real (tiny) models: who answers at which temperature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alignment_api.metrics import MetricName
from alignment_api.spec import Engine, EvaluationSpec
from alignment_trainer.data.rows import Kind
from alignment_trainer.evaluation import gathering
from alignment_trainer.evaluation.gathering import Gatherer, Seat, Sets
from alignment_trainer.evaluation.generation import generate
from alignment_trainer.evaluation.judges.base import Comparison, Judgement, Outcome, judgements
from alignment_trainer.evaluation.metrics import measure
from alignment_trainer.evaluation.metrics.edit_burden import edit_distances
from alignment_trainer.training.prefix import packing
from support.material import pair
from support.tiny import save_tiny_model

SPEC = EvaluationSpec.model_validate({"generation": {"maxNewTokens": 8, "temperature": 1.0}})


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Seat:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder)
    return Seat(AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))


class NeverTheChampion:
    """A judge who prefers whatever differs from the champion's text."""

    def compare(self, comparisons: list[Comparison], _between: object) -> list[Judgement]:
        return [Judgement(Outcome.JUDGED, 1.0) for _ in comparisons]


def test_a_copy_wins_nothing_where_the_champion_is_best_at_another_temperature(seat: Seat) -> None:
    """Edit burden compares with the champion at its best; a judge and the counter-metrics see both at one temperature."""
    asked = [pair(n) for n in range(24)]
    colder = generate(
        seat.model,
        seat.tokenizer,
        [p.prompt for p in asked],
        temperature=0.5,
        maximum=8,
        seed=0,
        between=lambda _: None,
    )
    pairs = [replace(p, chosen=answer.text) for p, answer in zip(asked, colder, strict=True)]
    sets = Sets(refusals={"safety": [p.prompt for p in asked]})
    work = Gatherer(pairs, SPEC, maximum=128, seed=0, sets=sets)
    view = work.champion(seat)
    copy = work.candidate(seat, view, seat)
    assert copy.champion_temperature == 0.5
    assert copy.champion_best == [answer.text for answer in colder]
    assert copy.candidate == copy.champion
    assert copy.refusals["safety"].candidate == copy.refusals["safety"].champion
    compared = [
        Comparison(copy.pairs[i].prompt, ours.text, theirs.text)
        for i, ours, theirs in zip(copy.prompted, copy.candidate, copy.champion, strict=True)
    ]
    told = judgements(NeverTheChampion(), compared, lambda _: None)  # type: ignore[arg-type]
    wins = measure(MetricName.WIN_RATE, replace(copy, judgements=told)).estimate
    assert wins is not None
    assert wins.value == 0.5
    burden = measure(MetricName.EDIT_BURDEN, copy).estimate
    assert burden is not None
    assert burden.value > 0, "against the champion at its best a copy looks worse, never better"


def test_a_candidate_gains_nothing_by_being_more_random_than_the_champion(seat: Seat) -> None:
    """The champion flattened by a third writes what the champion itself was tried at."""
    import copy as copying

    flat = copying.deepcopy(seat.model)
    flat.model.norm.weight.data *= 3 / 4
    asked = [pair(n) for n in range(24)]
    hotter = generate(
        flat,
        seat.tokenizer,
        [p.prompt for p in asked],
        temperature=SPEC.generation.temperature,
        maximum=8,
        seed=0,
        between=lambda _: None,
    )
    pairs = [replace(p, chosen=answer.text) for p, answer in zip(asked, hotter, strict=True)]
    work = Gatherer(pairs, SPEC, maximum=128, seed=0)
    view = work.champion(seat)
    assert view.temperature == pytest.approx(4 / 3, abs=1e-3)
    burden = measure(MetricName.EDIT_BURDEN, work.candidate(Seat(flat, seat.tokenizer), view, seat)).estimate
    assert burden is not None
    assert burden.value == pytest.approx(0.0, abs=0.02), (
        "its texts are the people's own, and so are the champion's"
    )


def test_the_best_temperature_is_that_of_the_edits_alone(seat: Seat) -> None:
    """Where nobody edited, nearness to the chosen side means nothing."""
    pairs = [pair(n, kind=Kind.EDIT if n < 20 else Kind.PREFERENCE) for n in range(40)]
    work = Gatherer(pairs, SPEC, maximum=128, seed=0)
    assert sum(n < 20 for n in work.prompted) == 20
    view = work.champion(seat)
    finals = [str(p.chosen) for p in pairs[:20]]
    expected = edit_distances(view.best[:20], finals).mean()
    assert view.temperatures[view.temperature] == pytest.approx(expected)


def test_progress_never_goes_back_and_ends_where_it_said(seat: Seat) -> None:
    told: list[tuple[int, int]] = []
    sets = Sets(anchors={"general": ["some text", "and more"]}, refusals={"safety": ["a prompt"]})
    work = Gatherer(
        [pair(n) for n in range(24)],
        SPEC,
        maximum=128,
        seed=0,
        sets=sets,
        tick=lambda _activity, done, total: told.append((done, total)),
    )
    work.candidate(seat, work.champion(seat), seat)
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    done, total = told[-1]
    assert done == total


def test_pairs_scored_some_at_a_time_get_the_same_numbers(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Gatherer([pair(n) for n in range(24)], SPEC, maximum=128, seed=0)
    whole, tokens = work._logps(seat, "champion")
    monkeypatch.setattr(gathering, "_PAIRS_AT_ONCE", 7)
    some, the_same = work._logps(seat, "champion")
    np.testing.assert_allclose(some.chosen, whole.chosen, rtol=1e-5)
    np.testing.assert_allclose(some.rejected, whole.rejected, rtol=1e-5)
    assert the_same.tolist() == tokens.tolist()


def test_a_training_by_trl_alone_is_evaluated_without_sharing(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "pack", lambda *_: pytest.fail("pairs were packed"))
    work = Gatherer([pair(n) for n in range(4)], SPEC, maximum=128, seed=0, engine=Engine.TRL)
    assert work.champion(seat).tokens.all()
