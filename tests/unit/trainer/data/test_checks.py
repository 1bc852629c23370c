"""What is checked on pairs and told about them: duplicates, contradictions, lengths, agreement, exclusions."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment_trainer.data.limits import refuse_too_few, refuse_too_many_invalid
from alignment_trainer.errors import DataError
from support.preparing import edit, pair, prepared, signal, write_rows

TURNED = pair(1, chosen=pair(1)["rejected"], rejected=pair(1)["chosen"])


# Against each other.


def test_an_exact_repetition_counts_once(tmp_path: Path) -> None:
    found = prepared(tmp_path, [pair(1), pair(1), pair(1, group="z")])
    assert (found.funnel.pairs, found.funnel.duplicates) == (1, 2)
    assert found.pairs[0].place.line == 1


def test_unicode_forms_line_ends_and_control_characters_make_no_difference(tmp_path: Path) -> None:
    rows = [
        pair(1, chosen="Café\nau lait"),
        pair(1, chosen="Cafe\u0301\r\nau lait"),
        pair(1, chosen="Caf\u00e9\x07\rau lait"),
    ]
    found = prepared(tmp_path, rows)
    assert (found.funnel.pairs, found.funnel.duplicates) == (1, 2)
    assert found.pairs[0].chosen == "Café\nau lait"


def test_both_sides_of_a_contradiction_are_dropped(tmp_path: Path) -> None:
    found = prepared(tmp_path, [pair(1), TURNED, TURNED | {"group": "z"}, pair(2)])
    assert (found.funnel.pairs, found.funnel.contradictions, found.funnel.duplicates) == (1, 2, 1)


def test_contradictions_stay_where_the_spec_keeps_them(tmp_path: Path) -> None:
    assert prepared(tmp_path, [pair(1), TURNED], contradictions="Keep").funnel.pairs == 2


@pytest.mark.parametrize("other", ["Same text.", " same  TEXT.\n"])
def test_sides_that_differ_in_space_and_case_only_are_no_preference(tmp_path: Path, other: str) -> None:
    assert prepared(tmp_path, [pair(1, chosen="Same text.", rejected=other)]).reasons == {1: "identicalSides"}


# Limits.


def test_too_many_invalid_rows_end_the_run_with_the_five_worst_faults_and_places(tmp_path: Path) -> None:
    rows = [
        *[pair(n) for n in range(10)],
        *["no json"] * 6,
        *[pair(n, weight=-1) for n in range(5)],
        *[edit(n, signal="shrug") for n in range(4)],
        *[{"prompt": "x"}] * 3,
        *[pair(n, chosen="") for n in range(2)],
        pair(1, time="soon"),
    ]
    found = prepared(tmp_path, rows)
    with pytest.raises(DataError) as refused:
        refuse_too_many_invalid(found.found.account, _spec(0.1))
    message = refused.value.message
    assert "21 of 31 rows are invalid" in message
    codes = ["6 × NotJson", "5 × WeightInvalid", "4 × SignalUnknown", "3 × FormatUnknown", "2 × TextEmpty"]
    assert [message.index(code) for code in codes] == sorted(message.index(code) for code in codes)
    assert "TimeInvalid" not in message
    assert f"{(tmp_path / 'rows.jsonl').as_uri()}:11" in message
    assert refused.value.exit_code == 65
    refuse_too_many_invalid(found.found.account, _spec(0.7))


def _spec(fraction: float, minimum: int = 1) -> object:
    from alignment_api.spec import DataSpec

    wire = {"sources": [{"uri": "file:///x"}], "maximumInvalidFraction": fraction, "minimumPairs": minimum}
    return DataSpec.model_validate(wire)


def test_too_few_pairs_and_an_empty_side_end_the_run(tmp_path: Path) -> None:
    found = prepared(tmp_path, [pair(n) for n in range(10)])
    with pytest.raises(DataError, match="10 usable pairs from 10 rows") as few:
        refuse_too_few(found.funnel, _spec(0.1, minimum=11))
    assert few.value.reason == "TooFewPairs"
    alone = prepared(tmp_path, [pair(n, group="one") for n in range(10)])
    with pytest.raises(DataError, match=r"1 groups at holdout\.fraction"):
        refuse_too_few(alone.funnel, _spec(0.1))


def test_the_worst_garbage_fills_no_memory_with_sentences(tmp_path: Path) -> None:
    found = prepared(tmp_path, [{f"key{n}": 1} for n in range(1500)])
    sentences = {row["message"] for row in found.quarantine}
    assert len(found.quarantine) == 1500
    assert len(sentences) <= 1001


# Length.


def test_length_preference_is_told_with_its_interval(tmp_path: Path) -> None:
    rows = [pair(n, chosen="long " * 30 + str(n), rejected=f"short {n}") for n in range(150)]
    rows += [pair(n, chosen=f"brief {n}", rejected="wordy " * 30 + str(n)) for n in range(150, 180)]
    found = prepared(tmp_path, rows)
    longer = found.funnel.chosen_longer
    assert longer is not None
    assert longer.n == 180
    assert longer.estimate == pytest.approx(150 / 180)
    # Wilson at 150 of 180, from statsmodels.stats.proportion.proportion_confint(method="wilson").
    assert (longer.low, longer.high) == (pytest.approx(0.7720, abs=2e-3), pytest.approx(0.8808, abs=2e-3))
    assert any("83% of pairs the chosen side is longer" in sentence for sentence in found.funnel.warnings)


def test_balanced_lengths_are_no_warning(tmp_path: Path) -> None:
    rows = [pair(n, **{("chosen", "rejected")[n % 2]: "long " * 30 + str(n)}) for n in range(200)]
    assert prepared(tmp_path, rows).funnel.warnings == ()


# Agreement.


def votes(count: int, cohorts: tuple[str, str], second: str) -> list[dict[str, object]]:
    """Each text is accepted by one person and judged ``second`` by another."""
    rows = []
    for n in range(count):
        response = f"Answer number {n} to the question."
        rows += [
            signal("accept", n, response, id=f"a{n}", actor="ann", cohort=cohorts[0]),
            signal(second, n, response, id=f"b{n}", actor="bob", cohort=cohorts[1]),
        ]
    return rows


def test_cohorts_that_contradict_each_other_are_a_warning(tmp_path: Path) -> None:
    found = prepared(tmp_path, votes(30, ("north", "south"), "thumbs_down"))
    agreement = found.funnel.cohort_agreement
    assert agreement is not None
    assert (agreement.estimate, agreement.n) == (0.0, 30)
    assert agreement.high < 0.2
    assert any("cohorts contradict each other" in sentence for sentence in found.funnel.warnings)


def test_cohorts_that_agree_are_none(tmp_path: Path) -> None:
    found = prepared(tmp_path, votes(30, ("north", "south"), "thumbs_up"))
    agreement = found.funnel.cohort_agreement
    assert agreement is not None
    assert agreement.estimate == 1.0
    assert found.funnel.warnings == ()


def test_actors_of_one_cohort_may_disagree_while_their_cohort_has_one_voice(tmp_path: Path) -> None:
    found = prepared(tmp_path, votes(30, ("north", "north"), "thumbs_down"))
    assert found.funnel.actor_agreement is not None
    assert found.funnel.actor_agreement.estimate == 0.0
    assert found.funnel.cohort_agreement is None


def test_one_person_who_votes_twice_agrees_with_nobody(tmp_path: Path) -> None:
    rows = [row | {"actor": "ann"} for row in votes(5, ("north", "north"), "thumbs_up")]
    assert prepared(tmp_path, rows).funnel.actor_agreement is None


def test_an_edit_counts_against_the_text_it_changes_and_pairs_vote_too(tmp_path: Path) -> None:
    rows = [
        edit(1, id="x", actor="ann", cohort="n"),
        signal("accept", 1, edit(1)["response"], prompt=edit(1)["prompt"], actor="bob", cohort="s"),
    ]
    assert prepared(tmp_path, rows).funnel.actor_agreement.estimate == 0.0  # type: ignore[union-attr]
    opposed = [pair(1, actor="ann"), TURNED | {"actor": "bob"}]
    found = prepared(tmp_path, opposed).funnel.actor_agreement
    assert found is not None
    assert (found.estimate, found.n) == (0.0, 2)


# Exclusions.


def test_what_is_excluded_is_left_out_first_and_recorded_by_digest(tmp_path: Path) -> None:
    names = [{"id": "e1"}, {"actor": "ann"}, {"group": "guest-3"}, {"id": 17, "actor": "nobody"}]
    uri = write_rows(tmp_path / "gone.jsonl", names)
    rows = [
        edit(1),
        edit(2, actor="ann"),
        edit(3),
        edit(4),
        edit(5, id=17),
        edit(6, id="e1", time="2027-01-01T00:00:00Z"),
        pair(7, actor="ann"),
        pair(8),
    ]
    found = prepared(tmp_path, rows, exclusions=[{"uri": uri}])
    assert found.funnel.excluded == 6
    assert [p.place.line for p in found.pairs] == [4, 8]
    again = write_rows(tmp_path / "more.jsonl", names[::-1] + names)
    assert (
        prepared(tmp_path, rows, exclusions=[{"uri": again}]).found.exclusions.digest
        == found.found.exclusions.digest
    )
    assert prepared(tmp_path, rows).found.exclusions.digest != found.found.exclusions.digest


def test_an_excluded_text_is_never_written_not_even_to_scratch(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "gone.jsonl", [{"actor": "ann"}])
    prepared(
        tmp_path,
        [edit(1, actor="ann", edited="A secret that must go away for ever and ever."), edit(2)],
        exclusions=[{"uri": uri}],
    )
    (tmp_path / "rows.jsonl").unlink()
    assert not any(b"A secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "line", ["no json", "{}", '{"id": ""}', '{"id": null}', '{"id": ["a"]}', '{"subject": "ann"}', "[]"]
)
def test_an_exclusion_that_cannot_be_understood_ends_the_run(tmp_path: Path, line: str) -> None:
    uri = write_rows(tmp_path / "gone.jsonl", ['{"id": "a"}', line])
    with pytest.raises(DataError, match=r"gone\.jsonl:2: an exclusion needs") as refused:
        prepared(tmp_path, [pair(1)], exclusions=[{"uri": uri}])
    assert refused.value.reason == "ExclusionInvalid"
