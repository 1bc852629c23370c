"""Each rule by which events become pairs, as docs/data.md states it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from alignment_trainer.data.rows import Kind
from support.preparing import edit, prepared, signal

PROMPT = "Write the note for the visit of the old sailor with the wooden leg."
DRAFT = "The sailor came in, sat down, and told us about his leg and the sea."
BETTER = "The sailor reports pain where the wooden leg meets the knee, for a week now."
FINAL = "The sailor reports pain at the knee above his wooden leg, since last Monday."


def event(id_: str, response: str, edited: str, **fields: object) -> dict[str, object]:
    return edit(1, id=id_, prompt=PROMPT, response=response, edited=edited) | fields


# An edit is a preference for what the person left standing.


def test_an_edit_prefers_the_edited_text(tmp_path: Path) -> None:
    (only,) = prepared(tmp_path, [event("a", DRAFT, BETTER, actor="ann", cohort="north", model="m1")]).pairs
    assert (only.prompt, only.chosen, only.rejected) == (PROMPT, BETTER, DRAFT)
    assert only.kind is Kind.EDIT
    assert (only.group, only.actor, only.cohort, only.model) == ("guest-1", "ann", "north", "m1")
    assert only.event_ids == ("a",)


@pytest.mark.parametrize(
    ("edited", "reason"),
    [
        (DRAFT.replace(" ", "  ") + "\n", "insignificantEdit"),
        (DRAFT.upper(), "insignificantEdit"),
        (DRAFT.replace(",", ";") + "!", "punctuationEdit"),
        ("**" + DRAFT + "**", "punctuationEdit"),
        (DRAFT.replace("came", "cane"), "insignificantEdit"),
        ("Xyzzy qqq ööö 12345", "insignificantEdit"),
    ],
    ids=[
        "only space",
        "only case",
        "only punctuation",
        "only markup",
        "below the minimum",
        "above the maximum",
    ],
)
def test_an_edit_that_is_none_is_counted_apart(tmp_path: Path, edited: str, reason: str) -> None:
    found = prepared(tmp_path, [event("a", DRAFT, edited)])
    assert found.funnel.dropped == {reason: 1}
    assert found.reasons == {1: reason}


def test_the_bounds_of_an_edit_are_the_specs(tmp_path: Path) -> None:
    small = event("a", DRAFT, DRAFT.replace("came", "cane"))
    assert (
        prepared(tmp_path, [small], events={"significantEdit": {"minimumDistance": 0.001}}).funnel.pairs == 1
    )
    large = event("a", DRAFT, BETTER)
    assert prepared(tmp_path, [large], events={"significantEdit": {"maximumDistance": 0.3}}).funnel.pairs == 0


def test_bounds_are_inclusive(tmp_path: Path) -> None:
    ten = event("a", "abcdefghij", "abcdefghiX")  # one of ten characters: distance 0.1
    for bounds in ({"minimumDistance": 0.1}, {"minimumDistance": 0.0, "maximumDistance": 0.1}):
        assert prepared(tmp_path, [ten], events={"significantEdit": bounds}).funnel.pairs == 1


# Chains: an edit of an edit.


def chain() -> list[dict[str, object]]:
    return [
        event("a", DRAFT, BETTER, time="2026-01-01T00:00:00Z", actor="ann"),
        event("b", BETTER, FINAL, time="2026-01-02T00:00:00Z", actor="bob"),
    ]


def test_a_chain_becomes_one_pair_from_first_response_to_last_text(tmp_path: Path) -> None:
    found = prepared(tmp_path, chain())
    (only,) = found.pairs
    assert (only.rejected, only.chosen, only.event_ids) == (DRAFT, FINAL, ("a", "b"))
    assert (only.actor, only.other_actors) == ("ann", ("bob",))
    assert found.funnel.dropped == {"collapsed": 1}
    assert found.quarantine == []


def test_a_chain_stays_separate_where_the_spec_says_so(tmp_path: Path) -> None:
    found = prepared(tmp_path, chain(), events={"chains": "Separate"})
    assert {(p.rejected, p.chosen) for p in found.pairs} == {(DRAFT, BETTER), (BETTER, FINAL)}


def test_a_chain_that_ends_where_it_began_is_no_edit(tmp_path: Path) -> None:
    found = prepared(tmp_path, [event("a", DRAFT, BETTER), event("b", BETTER, DRAFT)])
    assert found.funnel.dropped == {"insignificantEdit": 2}


def test_a_text_edited_twice_continues_the_earlier_edit_only(tmp_path: Path) -> None:
    other = "The sailor says the sea air helps, and wants no new leg before the summer."
    rows = [*chain(), event("c", BETTER, other, time="2026-01-03T00:00:00Z")]
    found = prepared(tmp_path, rows)
    assert {(p.rejected, p.chosen) for p in found.pairs} == {(DRAFT, FINAL), (BETTER, other)}


def test_chains_join_across_prompts_of_one_group_and_never_across_groups(tmp_path: Path) -> None:
    first, second = chain()
    assert prepared(tmp_path, [first, second | {"prompt": "Go on with the note."}]).funnel.pairs == 1
    apart = prepared(tmp_path, [first, second | {"group": "guest-2"}])
    assert apart.funnel.dropped.get("collapsed") is None


def test_chains_across_groups_never_cross_the_split(tmp_path: Path) -> None:
    """Wherever the two links' groups fall, one link is left out when they fall apart."""
    first, second = chain()
    crossed = 0
    for number in range(12):
        rows = [
            first | {"group": f"x{number}"},
            second | {"group": f"y{number}", "prompt": f"Another one, {number}, please."},
        ]
        found = prepared(tmp_path, rows, holdout={"fraction": 0.5})
        if len(found.pairs) == 2:
            assert len(set(found.sides.values())) == 1
        else:
            crossed += 1
            assert found.funnel.dropped == {"leakChain": 1}
            assert found.funnel.holdout == 1
    assert crossed > 0


def test_a_link_dated_before_the_edit_it_goes_on_from_is_told(tmp_path: Path) -> None:
    first, second = chain()
    found = prepared(tmp_path, [first, second | {"time": "2025-12-31T23:59:00Z"}])
    (only,) = found.pairs
    assert (only.rejected, only.chosen) == (DRAFT, FINAL)
    assert any("clocks" in sentence for sentence in found.funnel.warnings)


# Ids: later events supersede earlier ones.


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),  # what many a database writes for "no end"
        ("9224-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ("2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.000002Z"),
        ("", "1970-01-01T00:00:00Z"),
    ],
    ids=["a far one", "two far ones", "one microsecond", "none"],
)
def test_the_latest_time_counts_whatever_the_year_and_to_the_microsecond(
    tmp_path: Path, earlier: str, later: str
) -> None:
    rows = [event("a", DRAFT, BETTER, time=later), event("a", DRAFT, FINAL, time=earlier)]
    found = prepared(tmp_path, rows)
    assert found.reasons == {2: "superseded"}
    assert found.pairs[0].chosen == BETTER


def test_the_latest_event_of_an_id_counts_whatever_the_order_of_lines(tmp_path: Path) -> None:
    rows = [
        event("a", DRAFT, FINAL, time="2026-01-02T00:00:00+02:00"),
        event("a", DRAFT, BETTER, time="2026-01-01T23:00:00Z"),
        event("a", DRAFT, DRAFT.upper(), time="2026-01-01T20:00:00Z"),
    ]
    found = prepared(tmp_path, rows)
    (only,) = found.pairs
    assert only.chosen == BETTER  # 23:00 UTC is later than 00:00 two hours east
    assert found.funnel.dropped == {"superseded": 2}


def test_an_event_delivered_twice_is_a_duplicate(tmp_path: Path) -> None:
    found = prepared(tmp_path, [event("a", DRAFT, BETTER)] * 3)
    assert (found.funnel.pairs, found.funnel.duplicates) == (1, 2)


def test_events_without_an_id_stand_each_for_itself(tmp_path: Path) -> None:
    rows = [{k: v for k, v in edit(n).items() if k != "id"} for n in range(3)]
    found = prepared(tmp_path, rows)
    assert found.funnel.pairs == 3
    # A place is no id: the next file has another row there.
    assert not any(p.id or p.event_ids for p in found.pairs)


# Votes.


def test_prefer_makes_a_pair_of_its_own(tmp_path: Path) -> None:
    found = prepared(tmp_path, [signal("prefer", 1, "Warm soup", other="Cold soup")])
    (only,) = found.pairs
    assert (only.chosen, only.rejected, only.kind) == ("Warm soup", "Cold soup", Kind.PREFERENCE)


@pytest.mark.parametrize("liked", ["accept", "thumbs_up"])
def test_opposite_signals_on_one_prompt_in_one_group_make_a_pair(tmp_path: Path, liked: str) -> None:
    rows = [signal("thumbs_down", 1, "Nails", actor="bob"), signal(liked, 1, "Soup", actor="ann")]
    found = prepared(tmp_path, rows)
    (only,) = found.pairs
    assert (only.chosen, only.rejected, only.other_actors) == ("Soup", "Nails", ("bob",))
    assert found.funnel.dropped == {"joined": 1}


@pytest.mark.parametrize(
    "rows",
    [
        [signal("accept", 1, "Soup")],
        [signal("thumbs_down", 1, "Nails")],
        [signal("accept", 1, "Soup"), signal("thumbs_up", 1, "Bread")],
        [signal("accept", 1, "Soup"), signal("thumbs_down", 2, "Nails")],
        [signal("accept", 1, "Soup"), signal("thumbs_down", 1, "Nails", group="another")],
        [signal("accept", 1, "Soup"), signal("thumbs_down", 1, "Soup")],
    ],
    ids=["accept alone", "thumbs down alone", "both liked", "other prompt", "other group", "same response"],
)
def test_a_signal_without_its_opposite_is_never_invented_into_a_pair(
    tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    found = prepared(tmp_path, rows)
    assert found.funnel.pairs == 0
    assert found.funnel.unpaired == len(rows)
    assert set(found.reasons.values()) == {"unpaired"}


def test_each_response_is_used_once_in_the_order_of_time(tmp_path: Path) -> None:
    rows = [
        signal("accept", 1, "Soup", time="2026-01-03T00:00:00Z"),
        signal("accept", 1, "Bread", time="2026-01-01T00:00:00Z"),
        signal("thumbs_down", 1, "Nails", time="2026-01-02T00:00:00Z"),
        signal("thumbs_down", 1, "Sand", time="2026-01-04T00:00:00Z"),
        signal("thumbs_down", 1, "Mud", time="2026-01-05T00:00:00Z"),
    ]
    random.Random(1).shuffle(rows)
    found = prepared(tmp_path, rows)
    assert {(p.chosen, p.rejected) for p in found.pairs} == {("Bread", "Nails"), ("Soup", "Sand")}
    assert found.funnel.unpaired == 1


def test_events_on_conversations_answer_as_the_assistant(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What about the leg?"}]
    (only,) = prepared(tmp_path, [event("a", DRAFT, BETTER, prompt=prompt)]).pairs
    assert only.prompt == prompt
    assert only.chosen == [{"role": "assistant", "content": BETTER}]
    assert only.conversation == "what about the leg?"
