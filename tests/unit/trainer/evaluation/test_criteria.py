"""The default gate, and what log-probabilities may not do."""

from __future__ import annotations

import numpy as np
import pytest

from alignment_api.evidence import MetricResult
from alignment_api.gate import NOTHING_CARRIES, decide
from alignment_api.metrics import METRICS, MetricFamily, MetricName
from alignment_api.names import StageName
from alignment_api.spec import Criterion, CriterionMode, EvaluationSpec
from alignment_api.stage import StageResult, read_termination_message
from alignment_api.verdict import Result
from alignment_trainer.data.rows import Kind
from alignment_trainer.errors import RequestError
from alignment_trainer.evaluation.criteria import Alpha, gather_evidence
from alignment_trainer.evaluation.defaults import asks_for_better, default_criteria, why_nothing_carries
from alignment_trainer.evaluation.material import Logps
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics import measure
from alignment_trainer.evaluation.prompts import rests_on_edits
from alignment_trainer.evaluation.stage import headline
from alignment_trainer.evaluation.statistics import mean_by_cluster, proportion
from support.material import material, pair
from support.runs import result

JUDGE = {"type": "RewardModel", "uri": "file:///judge/"}
ACCURATE = Criterion.model_validate({"name": "direction", "metric": "preferenceAccuracy", "minimum": 0.5})


def blocking(spec: EvaluationSpec, *, edits: bool) -> list[MetricName]:
    return [c.metric for c in default_criteria(spec, edits=edits) if c.mode is CriterionMode.BLOCKING]


@pytest.mark.parametrize(
    ("judge", "edits", "first"),
    [
        (None, True, MetricName.EDIT_BURDEN),
        (JUDGE, True, MetricName.WIN_RATE),
        (JUDGE, False, MetricName.WIN_RATE),
        (None, False, MetricName.PREFERENCE_ACCURACY),
    ],
    ids=["edits", "edits and a judge", "preferences and a judge", "preferences alone"],
)
def test_a_release_rests_on_generated_texts_wherever_they_can_be_compared(
    judge: dict[str, str] | None, edits: bool, first: MetricName
) -> None:
    spec = EvaluationSpec.model_validate({"judge": judge} if judge else {})
    metrics = blocking(spec, edits=edits)
    assert metrics[0] is first
    assert {MetricName.FLUENCY_GAP, MetricName.DEGENERATE_RATE, MetricName.CHOSEN_LOG_RATIO} <= set(metrics)
    families = {METRICS[m].family for m in metrics}
    assert (MetricFamily.SUPERIORITY in families) == (judge is not None or edits)


@pytest.mark.parametrize("judge", [None, JUDGE])
@pytest.mark.parametrize("edits", [True, False])
def test_every_set_that_the_user_gives_blocks_and_the_gate_stays_within_its_sixteen(
    judge: dict[str, str] | None, edits: bool
) -> None:
    sets = [{"name": f"s{n}", "uri": "s3://eval/x.jsonl"} for n in range(6)]
    wire: dict[str, object] = {"anchors": sets, "refusals": sets[:2]} | ({"judge": judge} if judge else {})
    criteria = default_criteria(EvaluationSpec.model_validate(wire), edits=edits)
    assert len(criteria) <= 16
    expected = {"refusal-s0", "refusal-s1", *(f"anchor-s{n}" for n in range(6))}
    assert expected <= {c.name for c in criteria if c.mode is CriterionMode.BLOCKING}


def test_more_sets_than_fit_are_refused_and_not_left_out() -> None:
    sets = [{"name": f"s{n}", "uri": "s3://eval/x.jsonl"} for n in range(8)]
    spec = EvaluationSpec.model_validate({"anchors": sets, "refusals": sets[:1]})
    with pytest.raises(RequestError, match="has 9 anchor and refusal sets") as refused:
        default_criteria(spec, edits=True)
    assert refused.value.reason == "SetsTooMany"


def test_sets_with_long_names_keep_criteria_of_their_own() -> None:
    names = ["a" * 62 + ending for ending in "bc"]
    sets = [{"name": name, "uri": "s3://eval/x.jsonl"} for name in names]
    found = default_criteria(EvaluationSpec.model_validate({"anchors": sets}), edits=True)
    ours = {c.name: c.selector for c in found if c.selector}
    assert sorted(ours.values(), key=str) == names
    assert all(len(name) <= 63 for name in ours)


@pytest.mark.parametrize("wanted", ["a", "b"])
def test_the_headline_is_of_the_set_that_the_first_criterion_names(wanted: str) -> None:
    criterion = Criterion(name="anchor", metric=MetricName.ANCHOR_LOSS_DELTA, selector=wanted, maximum=0.05)
    evidence = gather_evidence((criterion,), lambda _n, _s: good(), Alpha(0.05), comparable=True)
    metrics = tuple(
        MetricResult(name=MetricName.ANCHOR_LOSS_DELTA, selector=s, estimate=e, low=e, high=e)
        for s, e in (("a", 0.1), ("b", 0.2))
    )
    assert (
        headline(evidence, metrics)
        == {
            "a": "anchorLossDelta +0.100 [+0.100, +0.100]",
            "b": "anchorLossDelta +0.200 [+0.200, +0.200]",
        }[wanted]
    )


def good(count: int = 400) -> Measurement:
    return Measurement(proportion([1.0] * (count - 40) + [0.0] * 40, [""] * count))


def test_accuracy_alone_releases_nothing_where_texts_can_be_compared() -> None:
    evidence = gather_evidence((ACCURATE,), lambda _n, _s: good(), Alpha(0.05), comparable=True)
    verdict = decide((ACCURATE,), evidence)
    assert verdict.result is Result.INCONCLUSIVE
    assert "add a blocking criterion on editBurden or winRate" in str(verdict.criteria[0].message)


@pytest.mark.parametrize("edited", [0.49, 0.06, 0.04])
def test_a_change_of_temperature_is_not_released_however_few_pairs_are_edits(edited: float) -> None:
    """A flatter champion ranks every edit right and knows nothing about the other pairs."""
    rng, count = np.random.default_rng(0), 400
    kinds = [Kind.EDIT if n < edited * count else Kind.PREFERENCE for n in range(count)]
    pairs = [pair(n, kind=kind) for n, kind in enumerate(kinds)]
    champion = Logps(chosen=np.full(count, -60.0), rejected=np.full(count, -50.0))
    gained = 0.05 * rng.random(count)
    lost = np.where([k is Kind.EDIT for k in kinds], gained - 0.1, 0.05 * rng.random(count))
    flatter = Logps(chosen=champion.chosen + gained, rejected=champion.rejected + lost)
    of = material(pairs=pairs, champion_logps=champion, candidate_logps=flatter)
    edits = rests_on_edits(kinds.count(Kind.EDIT), count)
    criteria = default_criteria(EvaluationSpec(), edits=edits)
    evidence = gather_evidence(criteria, lambda n, s: measure(n, of, s), Alpha(0.05), comparable=edits)
    assert decide((), evidence).result is not Result.PASSED


def test_a_gain_that_nobody_would_notice_is_not_released_however_sure_it_is() -> None:
    criteria = default_criteria(EvaluationSpec(), edits=True)[:1]
    noise = np.random.default_rng(0).normal(0, 0.01, 4000)
    noise -= noise.mean()
    verdicts = {}
    for gain in (0.001, 0.004, 0.01):
        burden = Measurement(mean_by_cluster(list(noise - gain), [""] * 4000))
        evidence = gather_evidence(criteria, lambda _n, _s, m=burden: m, Alpha(0.05 / 52), comparable=True)  # type: ignore[misc]
        verdicts[gain] = decide((), evidence).result
    assert verdicts == {0.001: Result.FAILED, 0.004: Result.FAILED, 0.01: Result.PASSED}


def test_accuracy_alone_needs_every_counter_metric_where_nothing_can_be_compared() -> None:
    evidence = gather_evidence((ACCURATE,), lambda _n, _s: good(), Alpha(0.05), comparable=False)
    assert "add blocking criteria on fluencyGap, degenerateRate, chosenLogRatio, lengthRatio" in str(
        evidence.criteria[0].message
    )
    criteria = default_criteria(EvaluationSpec(), edits=False)
    evidence = gather_evidence(criteria, lambda _n, _s: good(), Alpha(0.05), comparable=False)
    assert evidence.criteria[0].estimate == pytest.approx(0.9)


def test_accuracy_beside_a_superiority_criterion_is_an_ordinary_criterion() -> None:
    burden = Criterion.model_validate({"name": "edits", "metric": "editBurden", "maximum": 0.0})
    evidence = gather_evidence((burden, ACCURATE), lambda _n, _s: good(), Alpha(0.05), comparable=True)
    assert evidence.criteria[1].estimate == pytest.approx(0.9)


def test_superiority_draws_on_the_budget_and_counter_metrics_do_not() -> None:
    criteria = default_criteria(EvaluationSpec(), edits=True)
    evidence = gather_evidence(criteria, lambda _n, _s: good(), Alpha(0.05 / 52), comparable=True)
    alphas = {e.criterion.name: e.alpha for e in evidence.criteria}
    assert alphas["edits"] == pytest.approx(0.05 / 52)
    assert alphas["language"] == pytest.approx(0.05)
    assert alphas["direction"] == pytest.approx(0.05), "a dry run decides nothing and spends nothing"


def test_a_stricter_criterion_keeps_its_own_confidence() -> None:
    strict = Criterion.model_validate(
        {"name": "edits", "metric": "editBurden", "maximum": 0.0, "confidence": 0.9999}
    )
    evidence = gather_evidence((strict,), lambda _n, _s: good(), Alpha(0.05 / 52), comparable=True)
    assert evidence.criteria[0].alpha == pytest.approx(0.0001)


def test_a_miss_with_enough_data_says_that_the_effect_is_probably_smaller() -> None:
    criterion = default_criteria(EvaluationSpec(), edits=True)[0]
    rng = np.random.default_rng(0)
    small = Measurement(mean_by_cluster(list(rng.normal(-0.001, 0.05, 400)), [""] * 400))
    (found,) = gather_evidence((criterion,), lambda _n, _s: small, Alpha(0.05), comparable=True).criteria
    assert found.needed_pairs is None
    assert "400 observations were enough" in str(found.message)
    wide = Measurement(mean_by_cluster(list(rng.normal(-0.01, 0.4, 400)), [""] * 400))
    (found,) = gather_evidence((criterion,), lambda _n, _s: wide, Alpha(0.05), comparable=True).criteria
    assert found.needed_pairs is not None
    assert found.needed_pairs > 400


def test_log_probabilities_alone_decide_with_every_counter_metric_beside_them() -> None:
    counters = {MetricName.FLUENCY_GAP, MetricName.DEGENERATE_RATE, MetricName.CHOSEN_LOG_RATIO}
    counters |= {MetricName.LENGTH_RATIO, MetricName.KL_PER_TOKEN, MetricName.WORST_COHORT_ACCURACY}
    assert set(blocking(EvaluationSpec(), edits=False)) == {MetricName.PREFERENCE_ACCURACY, *counters}
    own = tuple(c for c in default_criteria(EvaluationSpec(), edits=False) if c.name != "drift")
    assert "klPerToken" in str(why_nothing_carries(own, comparable=False))


def test_a_limit_on_the_wrong_side_carries_nothing() -> None:
    """It would be met by worse models only."""
    worse = Criterion(name="edits", metric=MetricName.EDIT_BURDEN, minimum=0.0)
    assert why_nothing_carries((worse,), comparable=True) == NOTHING_CARRIES
    evidence = gather_evidence(
        (worse,),
        lambda _n, _s: Measurement(mean_by_cluster([0.4, 0.5, 0.6] * 20, [""] * 60)),
        Alpha(0.05),
        comparable=True,
    )
    assert decide((worse,), evidence).result is Result.INCONCLUSIVE


def test_a_gate_that_a_copy_meets_is_told_from_one_that_asks_for_better() -> None:
    no_worse = Criterion(name="edits", metric=MetricName.EDIT_BURDEN, maximum=0.01)
    better = Criterion(name="wins", metric=MetricName.WIN_RATE, minimum=0.5)
    assert not asks_for_better((no_worse,))
    assert asks_for_better((no_worse, better))
    for edits in (True, False):
        assert asks_for_better(default_criteria(EvaluationSpec(), edits=edits))


def test_the_report_decides_on_the_numbers_that_the_run_gets() -> None:
    """A stage's answer has room for six digits; the verdict in the report must be that of the status."""
    limit = Criterion(name="wins", metric=MetricName.WIN_RATE, minimum=0.4999999)
    evidence = gather_evidence((limit,), lambda _n, _s: good(), Alpha(0.05), comparable=True)
    answer = result(StageName.EVALUATE, evidence=evidence)
    back = read_termination_message(answer.to_termination_message())
    assert isinstance(back, StageResult)
    assert back.evidence == evidence
    assert decide((limit,), evidence).result is Result.PASSED
