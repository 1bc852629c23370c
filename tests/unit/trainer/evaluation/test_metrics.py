"""Metrics against values worked out by hand, and what each of them cannot say."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from alignment_api.gate import judge
from alignment_api.metrics import METRICS, MetricName
from alignment_api.spec import Criterion
from alignment_api.verdict import Result
from alignment_trainer.data.rows import Kind
from alignment_trainer.evaluation.criteria import Alpha, gather_evidence
from alignment_trainer.evaluation.judges.base import Judgement, Outcome
from alignment_trainer.evaluation.material import (
    AnchorLosses,
    Drift,
    Logps,
    Material,
    Placebos,
    RefusalAnswers,
)
from alignment_trainer.evaluation.metrics import REGISTRY, measure
from alignment_trainer.evaluation.metrics.refusal_rate import is_refusal
from alignment_trainer.evaluation.metrics.win_rate_length_controlled import fit_at_equal_length, overlap
from alignment_trainer.evaluation.placebo import CANDIDATES, Pool, match, placebo_edits
from alignment_trainer.evaluation.statistics import bounds, p_value, proportion
from support.material import generation, material, pair


def value(name: str, of: Material, selector: str = "") -> float:
    found = measure(MetricName(name), of, selector)
    assert found.estimate is not None, found.message
    return found.estimate.value


def why_not(name: str, of: Material, selector: str = "") -> str:
    found = measure(MetricName(name), of, selector)
    assert found.estimate is None
    assert found.message
    return found.message


def test_every_metric_that_can_be_named_is_computed() -> None:
    assert set(REGISTRY) == set(METRICS) == set(MetricName)


def test_edit_burden_is_the_mean_change_of_the_distance_to_the_final_text() -> None:
    base = material(20)
    better = [generation(str(p.chosen)) for p in base.pairs[:10]] + base.candidate[10:]
    gone = [4 / len(str(p.chosen)) for p in base.pairs[:10]]  # "poor" to "fine": four letters
    assert value("editBurden", material(20, candidate=better)) == pytest.approx(-sum(gone) / 20)
    assert value("editBurden", base) == 0


def test_edit_burden_knows_no_final_text_where_pairs_are_no_edits() -> None:
    pairs = [pair(n, kind=Kind.PREFERENCE) for n in range(20)]
    assert "nobody's final text is known" in why_not("editBurden", material(pairs=pairs))


def test_preference_accuracy_counts_ties_half_and_is_relative_to_the_champion() -> None:
    champion = Logps(chosen=np.array([-9.0] * 20), rejected=np.array([-3.0] * 20))
    moved = np.array([0.0] * 10 + [1.0] * 10)
    candidate = Logps(chosen=champion.chosen + moved, rejected=champion.rejected)
    of = material(20, champion_logps=champion, candidate_logps=candidate)
    assert value("preferenceAccuracy", of) == pytest.approx(0.75)
    assert value("rankingAccuracy", of) == 0, "alone, neither ranks one pair right"


def test_edits_of_the_models_own_drafts_do_not_count_for_accuracy_beside_other_pairs() -> None:
    pairs = [pair(n, kind=Kind.EDIT if n < 10 else Kind.PREFERENCE) for n in range(30)]
    champion = Logps(chosen=np.array([-9.0] * 30), rejected=np.array([-3.0] * 30))
    flatter = Logps(chosen=champion.chosen + np.array([1.0] * 10 + [0.0] * 20), rejected=champion.rejected)
    of = material(pairs=pairs, champion_logps=champion, candidate_logps=flatter)
    assert value("preferenceAccuracy", of) == 0.5
    assert measure(MetricName.PREFERENCE_ACCURACY, of).message == "10 pairs that are edits left out"


def judged(preferences: list[float | None]) -> list[Judgement]:
    return [Judgement(Outcome.FAILED) if p is None else Judgement(Outcome.JUDGED, p) for p in preferences]


def test_win_rate_is_the_mean_of_the_judged_and_the_others_count_against_it_in_the_bounds() -> None:
    of = material(40, judgements=judged([1.0] * 20 + [0.5] * 10 + [0.0] * 8 + [None] * 2))
    assert value("winRate", of) == pytest.approx(25 / 38)
    assert measure(MetricName.WIN_RATE, of).message == (
        "2 of 40 prompts have no judgement (2 failed) and count against either side in the bounds"
    )


def test_a_judge_that_is_silent_where_the_candidate_is_worst_releases_nothing() -> None:
    """Without the silent ones the candidate wins 200 of 360; with them it is no better than the champion."""
    of = material(400, judgements=judged([1.0] * 200 + [0.0] * 160 + [None] * 40))
    estimate = measure(MetricName.WIN_RATE, of).estimate
    assert estimate is not None
    left_out = proportion([1.0] * 200 + [0.0] * 160, [""] * 360)
    assert bounds(left_out, 0.05)[0] > 0.5
    low, high = bounds(estimate, 0.05)
    assert low < 0.47
    assert high > 0.62
    assert p_value(estimate, 0.5, above=True) >= 0.5


def test_comparisons_that_all_end_alike_are_no_certainty_at_equal_length() -> None:
    lengths = [100, 120] * 20
    of = with_lengths(lengths, lengths[::-1], [1.0] * 40)
    estimate = measure(MetricName.WIN_RATE_LENGTH_CONTROLLED, of).estimate
    assert estimate is not None
    assert bounds(estimate, 0.05 / 52)[0] < 0.9


def test_too_many_missing_judgements_make_the_win_rate_unavailable() -> None:
    of = material(40, judgements=judged([1.0] * 35 + [None] * 5))
    assert "no judgement for 5 of 40 prompts (5 failed)" in why_not("winRate", of)
    assert "no judge is configured" in why_not("winRate", material(40))


def with_lengths(ours: list[int], theirs: list[int], preferences: list[float]) -> Material:
    return material(
        len(ours),
        candidate=[generation("x" * n) for n in ours],
        champion=[generation("x" * n) for n in theirs],
        judgements=judged(list(preferences)),
    )


def test_a_win_by_length_alone_is_no_win_at_equal_length() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(80, 140, 300), rng.integers(60, 120, 300)
    wins = [float(a > b) if rng.random() < 0.9 else float(a <= b) for a, b in zip(ours, theirs, strict=True)]
    of = with_lengths(list(ours), list(theirs), wins)
    assert value("winRate", of) > 0.65
    found = measure(MetricName.WIN_RATE_LENGTH_CONTROLLED, of)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.5, abs=0.12)
    assert "lengths overlap" in str(found.message)


def test_length_control_without_overlap_is_unavailable_and_not_wrong() -> None:
    """The published trap: 1 % of answers are longer, a win rate of 7 % is fitted to 39 %."""
    ours, theirs = [50] * 198 + [300] * 2, [200 + n % 7 for n in range(200)]
    wins = [1.0] * 14 + [0.0] * 186
    assert "too little to say anything about equal lengths" in why_not(
        "winRateLengthControlled", with_lengths(ours, theirs, wins)
    )


def test_the_length_fit_at_no_slope_is_the_mean_and_knows_separation() -> None:
    rng = np.random.default_rng(1)
    lengths = np.tanh(rng.normal(size=4000))
    even = (rng.random(4000) < 0.6).astype(float)
    assert fit_at_equal_length(even, lengths) == pytest.approx(0.6, abs=0.03)
    assert 0.3 < fit_at_equal_length((lengths > 0).astype(float), lengths) < 0.7


def test_overlap_is_one_for_the_same_lengths_and_nought_for_distant_ones() -> None:
    same = np.arange(100.0)
    assert overlap(same, same) == pytest.approx(1)
    assert overlap(same, same + 1000) == pytest.approx(0)
    assert overlap(np.full(10, 5.0), np.full(10, 5.0)) == 1


def placebos(candidate: float, gap: float = 0.0, count: int = 40) -> Placebos:
    champion = np.full(count, -20.0 + gap)
    return Placebos(list(range(count)), champion + candidate, champion, gap, 0)


def test_lift_is_half_when_only_the_edits_gained_and_nought_when_any_edit_did() -> None:
    gained = Logps(chosen=np.full(40, -18.0), rejected=np.full(40, -10.0))
    learned = material(40, candidate_logps=gained, placebos=placebos(0.0))
    flattened = material(40, candidate_logps=gained, placebos=placebos(2.0))
    assert value("preferenceLift", learned) == pytest.approx(0.5)
    assert value("preferenceLift", flattened) == pytest.approx(0.0)


def test_lift_needs_placebos_that_are_as_likely_as_the_edits() -> None:
    assert "placebos differ by +3.00 nats" in why_not(
        "preferenceLift", material(40, placebos=placebos(0, gap=3))
    )
    assert "20 are needed" in why_not("preferenceLift", material(40))


def test_a_placebo_edits_the_same_draft_in_the_same_kind() -> None:
    draft = "the patient has a mild cough and no fever since monday"
    pool = Pool(["start aspirin daily and return if worse today", "plan rest and fluids for one week please"])
    replaced = placebo_edits(draft, draft.replace("cough", "ache"), pool, random.Random(0))
    assert len(replaced) == CANDIDATES
    assert all(len(text.split()) == len(draft.split()) for text in replaced)
    assert all(text != draft for text in replaced)
    longer = placebo_edits(draft, draft + " return if worse", pool, random.Random(0))
    assert all(len(text.split()) > len(draft.split()) for text in longer)
    assert placebo_edits(draft, draft, pool, random.Random(0)) == []


def test_matched_placebos_are_near_and_even_out() -> None:
    chosen = np.array([-20.0] * 50)
    offered = [np.array([-30.0, -21.0, -18.5])] * 49 + [np.array([-60.0])]
    taken = match(chosen, offered)
    assert taken[-1] is None, "none is near"
    gaps = [offered[i][t] + 20 for i, t in enumerate(taken) if t is not None]
    assert abs(np.mean(gaps)) < 0.05, "both sides are used, so that the mean gap is negligible"


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("", True),
        ("a short reply to number one that goes on", False),
        ("a short reply " * 8, True),
        ("zxqv wrglm blorft reply to number", True),
    ],
    ids=["empty", "never ends", "loops", "unknown words"],
)
def test_what_is_no_answer_is_degenerate(text: str, finished: bool) -> None:
    base = material(40)
    of = material(40, candidate=[generation(text, finished=finished), *base.candidate[1:]])
    assert value("degenerateRate", of) == pytest.approx(1 / 40)


@pytest.mark.parametrize(
    "text",
    [
        "a short reply\nSigned: ________________",
        "| a | short | reply |\n|---|---|---|---|---|\n| to | number | fine |",
        "a short reply\n                to number",
        "a short reply ........................ 3",
    ],
    ids=["a line to sign on", "a table", "an indentation", "a leader"],
)
def test_formatting_is_no_loop(text: str) -> None:
    base = material(40)
    assert value("degenerateRate", material(40, candidate=[generation(text), *base.candidate[1:]])) == 0
    endless = [generation("_" * 500), *base.candidate[1:]]
    assert value("degenerateRate", material(40, candidate=endless)) > 0


def test_what_repeats_in_the_persons_own_text_is_no_loop() -> None:
    pairs = [replace(pair(n), chosen="short reply: none " * 5) for n in range(40)]
    base = material(pairs=pairs)
    adopted = [generation("short reply: none " * 4), *base.candidate[1:]]
    assert value("degenerateRate", material(pairs=pairs, candidate=adopted)) == 0
    looping = [generation("short reply: fine " * 4), *base.candidate[1:]]
    assert value("degenerateRate", material(pairs=pairs, candidate=looping)) > 0


def test_an_answer_that_is_cut_before_the_persons_text_ends_is_not_endless() -> None:
    base = material(40)
    cut = [generation("a short reply to number", finished=False), *base.candidate[1:]]
    assert value("degenerateRate", material(40, candidate=cut)) == 0, "five tokens; the final text has nine"


def test_a_champion_that_is_degenerate_itself_hides_nothing() -> None:
    base = material(40)
    endless = [generation("a short reply to number one that goes on", finished=False)] * 30
    looping = [generation("a short reply " * 8)] * 40
    of = material(40, champion=[*endless, *base.champion[30:]], candidate=looping)
    assert value("degenerateRate", of) == 1.0
    found = measure(MetricName.DEGENERATE_RATE, of)
    assert "75% of the champion's own texts are degenerate" in str(found.message)
    assert found.champion == 0.75
    mended = material(40, champion=[*endless, *base.champion[30:]])
    assert value("degenerateRate", mended) == 0, "a candidate that mends a broken champion is no worse"


def test_refusals_in_words_that_are_not_known_make_the_rate_unavailable() -> None:
    answers = RefusalAnswers(
        candidate=["Gerne, so geht es: ..."] * 40,
        champion=["Es tut mir leid, dabei kann ich nicht helfen."] * 40,
    )
    of = material(40, refusals={"safety": answers})
    assert "the champion refuses 0% of the set 'safety'" in why_not("refusalRate", of, "safety")


def test_one_text_for_many_prompts_is_degenerate() -> None:
    """The constant answer that attacks a judge."""
    base = material(40)
    constant = [generation("a short reply to number 1 that is fine")] * 6
    attacking = material(40, candidate=[*constant, *base.candidate[6:]])
    assert value("degenerateRate", attacking) == pytest.approx(6 / 40)


def test_a_text_that_people_repeat_themselves_may_be_learned() -> None:
    pairs = [replace(pair(n), chosen="no change") if n < 8 else pair(n) for n in range(40)]
    base = material(pairs=pairs)
    learned = [generation("no change")] * 12
    assert value("degenerateRate", material(pairs=pairs, candidate=[*learned, *base.candidate[12:]])) == 0


def test_a_single_new_name_is_no_broken_language() -> None:
    base = material(40)
    named = [generation(g.text + " Okonkwo") for g in base.candidate]
    assert value("degenerateRate", material(40, candidate=named)) == 0


def test_scripts_without_spaces_are_compared_by_sign() -> None:
    text = "患者は軽い咳があります"
    of = material(40, words=frozenset(text), candidate=[generation(text), *material(40).candidate[1:]])
    base = measure(MetricName.DEGENERATE_RATE, of).estimate
    assert base is not None
    other = material(
        40, words=frozenset(text), candidate=[generation(text[::-1]), *material(40).candidate[1:]]
    )
    again = measure(MetricName.DEGENERATE_RATE, other).estimate
    assert again is not None
    assert again.value == base.value


def test_refusals_are_told_by_their_opening() -> None:
    assert is_refusal("I'm sorry, but I can't help with that.")
    assert is_refusal("As an AI, I cannot provide this.")
    assert not is_refusal(
        "Here is how: first, open the valve. " + "Then wait. " * 40 + "I cannot stress this enough."
    )
    assert not is_refusal("")


def test_refusal_rate_is_the_change_on_the_named_set() -> None:
    refused, told = ["I cannot help with that."] * 10, ["Sure, here it is."] * 10
    answers = {"safety": RefusalAnswers(candidate=refused[:4] + told[:6], champion=refused)}
    of = material(40, refusals=answers)
    assert value("refusalRate", of, "safety") == pytest.approx(-0.6)
    assert measure(MetricName.REFUSAL_RATE, of, "safety").champion == 1.0
    assert "no refusal set named 'other'" in why_not("refusalRate", of, "other")


def test_anchor_loss_delta_is_paired_by_text() -> None:
    rng = np.random.default_rng(0)
    champion = rng.normal(3, 1, 50)
    of = material(40, anchors={"general": AnchorLosses(champion + 0.02 + rng.normal(0, 0.001, 50), champion)})
    found = measure(MetricName.ANCHOR_LOSS_DELTA, of, "general")
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.02, abs=0.001)
    assert found.estimate.standard_error < 0.001, "the texts' own spread cancels"


def test_the_worst_cohort_is_the_one_for_which_least_can_be_promised() -> None:
    pairs = [pair(n, cohort="large" if n < 100 else "small") for n in range(125)]
    right = np.array([1.0] * 70 + [-1.0] * 30 + [1.0] * 18 + [-1.0] * 7)
    moved = Logps(chosen=-20.0 + right, rejected=np.full(125, -10.0))
    champion = Logps(chosen=np.full(125, -20.0), rejected=np.full(125, -10.0))
    of = material(pairs=pairs, candidate_logps=moved, champion_logps=champion)
    found = measure(MetricName.WORST_COHORT_ACCURACY, of)
    assert found.estimate is not None
    # 18 of 25 is more than 70 of 100, but promises less.
    assert found.estimate.value == pytest.approx(18 / 25)
    assert found.message == "cohort small, of 2"


def of_cohorts(right: NDArray[np.bool_]) -> Material:
    """Which pairs moved the right way, by cohort and pair."""
    cohorts, each = right.shape
    pairs = [pair(n, cohort=f"c{n // each}") for n in range(cohorts * each)]
    moved = Logps(chosen=np.where(right.ravel(), -19.0, -21.0), rejected=np.full(len(pairs), -10.0))
    champion = Logps(chosen=np.full(len(pairs), -20.0), rejected=np.full(len(pairs), -10.0))
    return material(pairs=pairs, candidate_logps=moved, champion_logps=champion)


def verdict_on_cohorts(of: Material) -> Result:
    criterion = Criterion(name="cohorts", metric=MetricName.WORST_COHORT_ACCURACY, minimum=0.45)
    evidence = gather_evidence((criterion,), lambda name, _: measure(name, of), Alpha(0.05), comparable=True)
    return judge(criterion, evidence.criteria[0]).result


def test_of_many_cohorts_at_the_limit_the_worst_by_chance_fails_no_candidate() -> None:
    """Nobody can overrule Failed, and of thirty cohorts one looks bad in every second evaluation."""
    rng = np.random.default_rng(0)
    results = [verdict_on_cohorts(of_cohorts(rng.random((30, 25)) < 0.45)) for _ in range(40)]
    assert results.count(Result.FAILED) <= 5
    assert Result.PASSED not in results


def test_a_cohort_that_is_clearly_below_the_limit_fails_among_many() -> None:
    right = np.random.default_rng(0).random((30, 25)) < 0.6
    right[7] = np.arange(25) < 2
    assert verdict_on_cohorts(of_cohorts(right)) is Result.FAILED
    assert verdict_on_cohorts(of_cohorts(right[7:8])) is Result.FAILED


def test_where_no_cohort_is_large_enough_all_pairs_are_one() -> None:
    found = measure(MetricName.WORST_COHORT_ACCURACY, material(40))
    assert found.estimate is not None
    assert found.estimate.n == 40
    assert found.message == "no cohort has 20 held-out pairs in two groups: all are one"


def test_kl_fluency_displacement_and_length_have_their_units() -> None:
    pairs = [pair(n) for n in range(20)]
    drift = Drift(champion_logps=-18.0 - np.arange(20) % 3, divergences=8.0 + np.arange(20) % 2 * 2.0)
    of = material(pairs=pairs, drift=drift)
    assert value("klPerToken", of) == pytest.approx(1.0)  # nine tokens, nine nats on average
    gap = np.mean([(18.0 + n % 3) / 9 - 20 / 9 for n in range(20)])
    assert value("fluencyGap", of) == pytest.approx(gap)
    displaced = Logps(chosen=np.full(20, -20.0) - np.arange(20) % 2 * 1.8, rejected=np.full(20, -10.0))
    champion = Logps(chosen=np.full(20, -20.0), rejected=np.full(20, -10.0))
    of = material(pairs=pairs, candidate_logps=displaced, champion_logps=champion)
    assert value("chosenLogRatio", of) == pytest.approx(-0.1)
    twice = [generation(str(p.rejected) * (1 + n % 2)) for n, p in enumerate(pairs)]
    assert value("lengthRatio", material(pairs=pairs, candidate=twice)) == pytest.approx(1.5, rel=0.02)
