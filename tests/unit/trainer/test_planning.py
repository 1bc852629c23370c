"""What a holdout can show, said before any GPU is used."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from alignment_api.metrics import MetricName
from alignment_api.spec import Criterion, ErrorBudget, EvaluationSpec
from alignment_trainer.evaluation.prompts import draw_prompts
from alignment_trainer.evaluation.statistics import bounds, mean_by_cluster
from alignment_trainer.planning import (
    DEVIATIONS,
    Holdout,
    Worth,
    beyond_limit,
    decision_alpha,
    plan_gate,
    plan_run,
)
from support.runs import run

WINS = Criterion.model_validate(
    {"name": "wins", "metric": "winRate", "minimum": 0.5, "minimumEffect": 0.1, "confidence": 0.95}
)
JUDGE = {"type": "RewardModel", "uri": "s3://judge/"}
ONE_DECISION = ErrorBudget(decisions_per_year=1)
ALONE = Worth.of([1] * 400)
"""Every pair a group of its own."""


def test_ten_points_of_win_rate_need_about_155_independent_pairs_for_one_decision() -> None:
    # (z.95 + z.80)² · ¼ / 0.1² = 155, the textbook's sample size of a one-sided test; t quantiles ask for one more.
    assert ALONE.needed(0.1, 0.05, DEVIATIONS[MetricName.WIN_RATE]) == 156


def test_the_effect_that_the_needed_pairs_show_is_the_one_they_were_needed_for() -> None:
    for worth in (ALONE, Worth.of([50] * 6)):
        needed = worth.needed(0.05, 0.001, 0.15)
        assert worth.shows(needed, 0.001, 0.15) <= 0.05 < worth.shows(needed - 1, 0.001, 0.15)


def test_as_many_decisions_pass_as_the_plan_says_also_with_few_groups() -> None:
    sizes, alpha = [12] * 20, 0.05 / 52
    shown = Worth.of(sizes).shows(240, alpha, 1.0)
    rng = np.random.default_rng(0)
    groups = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    passed = 0
    for _ in range(400):
        shared = np.repeat(rng.normal(0, math.sqrt(0.1), 20), 12)
        values = shown + shared + rng.normal(0, math.sqrt(0.9), 240)
        passed += bounds(mean_by_cluster(list(values), groups), alpha)[0] > 0
    assert 0.7 < passed / 400 < 0.88


def test_a_gate_that_two_groups_can_never_pass_is_said_and_asks_for_groups_not_pairs() -> None:
    spec = run(gate={"criteria": [WINS.to_wire()]}, evaluation={"judge": JUDGE}).spec
    _, (warning,) = plan_run(spec, [200, 200], 400)
    assert "criterion wins cannot pass: 400 held-out pairs of 2 groups" in warning
    assert "more groups" in warning


def test_the_years_budget_tightens_a_decision_and_dry_runs_spend_nothing() -> None:
    assert decision_alpha(WINS, ErrorBudget()) == pytest.approx(0.05 / 52)
    assert decision_alpha(WINS, ONE_DECISION) == pytest.approx(0.05)
    assert decision_alpha(
        WINS, ErrorBudget.model_validate({"mode": "Unlimited", "reason": "try"})
    ) == pytest.approx(0.05)
    dry = WINS.model_copy(update={"mode": "DryRun"})
    assert decision_alpha(dry, ErrorBudget()) == pytest.approx(0.05)


def test_pairs_of_one_author_are_worth_less() -> None:
    assert Worth.of([1] * 100).independent == pytest.approx(1)
    assert Worth.of([10] * 10).independent == pytest.approx(1 / 1.9)
    assert Worth.of([91] + [1] * 9).independent < 0.12
    assert Worth.of([1] * 100).degrees_of(100) == pytest.approx(99)
    assert Worth.of([10] * 10).degrees_of(100) == pytest.approx(9)
    assert Worth.of([91] + [1] * 9).degrees_of(100) < 1.3


def test_lift_is_planned_with_as_many_edits_as_get_placebos() -> None:
    assert Holdout([1] * 1000, 900, EvaluationSpec()).observations(MetricName.PREFERENCE_LIFT) == (200, 200)
    assert Holdout([1] * 1000).observations(MetricName.PREFERENCE_LIFT) == (200, 200)


def test_changes_are_counted_from_a_copy_of_the_champion_and_limits_may_ask_for_more() -> None:
    edits = Criterion.model_validate({"name": "edits", "metric": "editBurden", "maximum": -0.005})
    assert beyond_limit(edits, 0.02) == pytest.approx(0.015)
    assert beyond_limit(WINS, 0.1) == pytest.approx(0.1)
    no_worse = WINS.model_copy(update={"minimum": 0.45})
    assert beyond_limit(no_worse, 0.0) == pytest.approx(0.05), "a copy already meets it"
    (plan,) = plan_gate((edits,), ONE_DECISION, Holdout([1] * 400))
    assert plan.change == pytest.approx(plan.shows + 0.005)
    (plan,) = plan_gate((no_worse,), ONE_DECISION, Holdout([1] * 40_000))
    assert plan.change == 0.0


def test_only_answered_prompts_count_for_generated_texts() -> None:
    for prompts, small in ((200, False), (100, True)):
        spec = EvaluationSpec.model_validate({"generation": {"prompts": prompts}})
        (plan,) = plan_gate((WINS,), ONE_DECISION, Holdout([1] * 1000, 0, spec))
        assert plan.pairs == prompts
        assert plan.too_small is small


def test_edit_burden_is_planned_with_the_edits_that_are_answered_and_accuracy_with_the_other_pairs() -> None:
    judged = EvaluationSpec.model_validate({"judge": JUDGE})
    for spec, edits, expected in (
        (EvaluationSpec(), 100, (100, 100)),
        (EvaluationSpec(), 550, (300, 550)),  # a quarter of the 400 prompts stays with the other pairs
        (EvaluationSpec(), 1000, (400, 1000)),
        (judged, 550, (220, 550)),  # a judge compares all kinds alike
    ):
        holdout = Holdout([1] * 1000, edits, spec)
        assert holdout.observations(MetricName.EDIT_BURDEN) == expected
        drawn = draw_prompts(spec, [n < edits for n in range(1000)])
        assert len(drawn) == len(set(drawn)) == 400
        assert sum(n < edits for n in drawn) == pytest.approx(expected[0], abs=25 if spec is judged else 0)
    assert Holdout([1] * 1000, 550, judged).observations(MetricName.PREFERENCE_ACCURACY) == (450, 450)


def test_prompts_that_cap_the_edits_are_named_with_the_edits() -> None:
    _, (warning,) = plan_run(run().spec, [1] * 1000, 550)
    assert "criterion edits decides on 300 held-out edits" in warning
    assert "raise evaluation.generation.prompts: 550 edits are held out" in warning


def test_edits_in_the_minority_still_decide_and_log_probabilities_do_not() -> None:
    (plan,), _ = plan_run(run().spec, [1] * 400, 40)
    assert plan.criterion.metric is MetricName.EDIT_BURDEN
    (plan,), _ = plan_run(run().spec, [1] * 400, 5)
    assert plan.criterion.metric is MetricName.PREFERENCE_ACCURACY
    assert plan.pairs == 395


def test_a_criterion_that_will_see_nothing_is_said() -> None:
    edits = {"name": "edits", "metric": "editBurden", "maximum": 0.0}
    plans, (warning,) = plan_run(run(gate={"criteria": [edits]}).spec, [1] * 400, 0)
    assert not plans
    assert "criterion edits will be Inconclusive: none of the 400 held-out pairs" in warning


def test_a_small_holdout_is_said_with_what_it_can_show_and_what_it_needs() -> None:
    _, (warning,) = plan_run(run().spec, [1] * 100, 100)
    assert "criterion edits decides on 100 held-out edits" in warning
    assert "editBurden of 0.066" in warning
    assert "its minimumEffect of 0.02 beyond the limit of -0.005 needs about 880" in warning


def test_a_holdout_that_is_large_enough_is_not_warned_about() -> None:
    spec = run(gate={"criteria": [WINS.to_wire()]}, evaluation={"judge": JUDGE}).spec
    assert plan_run(spec, [1] * 400, 400)[1] == ()


def test_a_gate_that_can_release_nothing_is_said_before_anything_is_trained() -> None:
    length = {"name": "length", "metric": "lengthRatio", "maximum": 1.25}
    accuracy = {"name": "direction", "metric": "preferenceAccuracy", "minimum": 0.5}
    _, (warning,) = plan_run(run(gate={"criteria": [length]}).spec, [1] * 400, 400)
    assert "this gate can release nothing: no blocking criterion can show" in warning
    _, (warning,) = plan_run(run(gate={"criteria": [accuracy]}).spec, [1] * 400, 400)
    assert "this gate can release nothing: log-probabilities show a direction" in warning


def test_prompts_that_cap_a_large_holdout_are_named() -> None:
    spec = run(
        gate={"criteria": [WINS.to_wire()]}, evaluation={"judge": JUDGE, "generation": {"prompts": 100}}
    ).spec
    _, (warning,) = plan_run(spec, [1] * 400, 400)
    assert "raise evaluation.generation.prompts: 400 pairs are held out" in warning


def test_align_gate_plan_says_where_each_criterion_passes() -> None:
    from alignment_cli.main import app

    done = CliRunner().invoke(app, ["gate", "plan", "--holdout", "400", "--decisions", "1", "-o", "json"])
    assert done.exit_code == 0, done.output
    told = {row["metric"]: row for row in json.loads(done.output)["metrics"]}
    assert told["winRate"]["passesAt"] == pytest.approx(0.5411, abs=1e-4)
    assert told["editBurden"]["passesAt"] < 0
    assert told["winRate"]["pairsNeeded"]["10 points"] == 156
    effect = 0.02 - 0.005  # two points less to edit, of which the limit asks for half a point
    assert told["editBurden"]["pairsNeeded"]["2 points"] == ALONE.needed(effect, 0.05, 0.15)


def test_a_gate_that_a_copy_of_the_champion_meets_is_said() -> None:
    no_worse = WINS.model_copy(update={"minimum": 0.45, "minimum_effect": None})
    _, (warning,) = plan_run(
        run(gate={"criteria": [no_worse.to_wire()]}, evaluation={"judge": JUDGE}).spec, [1] * 400, 400
    )
    assert "a copy of the champion meets every limit of this gate" in warning
