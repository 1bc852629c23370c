"""Row formats: recognised by their fields, read exactly, refused with a code that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment_api.spec import SourceFormat
from alignment_trainer.data.formats import FIELDS, FORMATS, read_row
from alignment_trainer.data.rows import Event, Origin, Pair, Place, RowError
from support.preparing import edit, pair, prepared, write_rows

PLACE = Place("file:///x.jsonl", 3)
USER = {"role": "user", "content": "How far is the moon?"}
GOOD = {"role": "assistant", "content": "About 384,000 km."}
BAD = {"role": "assistant", "content": "Very far."}
OPENAI = {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
TRANSCRIPT = {
    "chosen": "\n\nHuman: Hello\n\nAssistant: Hi! How can I help?\n\nHuman: Moon?\n\nAssistant: I think it is far.",
    "rejected": "\n\nHuman: Hello\n\nAssistant: Hi! How can I help?\n\nHuman: Moon?\n\nAssistant: I think it is cheese.",
}


def nested(levels: int) -> dict[str, Any]:
    """Objects within each other."""
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


def read(row: object, wanted: SourceFormat = SourceFormat.AUTO) -> Pair:
    found = read_row(row, PLACE, wanted)
    assert isinstance(found, Pair)
    return found


def code(row: object, wanted: SourceFormat = SourceFormat.AUTO) -> str:
    with pytest.raises(RowError) as refused:
        read_row(row, PLACE, wanted)
    assert refused.value.message
    return refused.value.code


# Pairs: TRL's forms.


def test_a_standard_pair_is_read_as_it_is() -> None:
    found = read({"prompt": "Moon?", "chosen": " Far.", "rejected": " Near."})
    assert (found.prompt, found.chosen, found.rejected) == ("Moon?", " Far.", " Near.")


def test_an_implied_prompt_is_the_shared_beginning_up_to_a_word() -> None:
    found = read({"chosen": "The moon is far away", "rejected": "The moon is fat and round"})
    assert (found.prompt, found.chosen, found.rejected) == ("The moon is ", "far away", "fat and round")


def test_a_conversational_pair_keeps_its_messages() -> None:
    found = read({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]})
    assert (found.prompt, found.chosen, found.rejected) == ([USER], [GOOD], [BAD])


def test_an_implied_conversation_is_the_messages_both_share() -> None:
    found = read({"chosen": [USER, GOOD], "rejected": [USER, BAD]})
    assert (found.prompt, found.chosen, found.rejected) == ([USER], [GOOD], [BAD])


def test_sides_that_share_all_messages_are_no_pair() -> None:
    assert code({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}) == "PromptMissing"
    assert code({"chosen": [USER], "rejected": [USER, BAD]}) == "PromptMissing"
    assert code({"chosen": [GOOD], "rejected": [BAD]}) == "PromptMissing"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "chosen": [GOOD], "rejected": [BAD]}, "MixedForms"),
        ({"prompt": "a", "chosen": "b"}, "FormatUnknown"),
        ({"prompt": "a", "chosen": None, "rejected": "b"}, "FieldMissing"),
        ({"prompt": "a", "chosen": " \n", "rejected": "b"}, "TextEmpty"),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, "FieldType"),
        ({"chosen": "abc", "rejected": "xyz"}, "PromptMissing"),
        (pair(1, weight=float("nan")), "WeightInvalid"),
        (pair(1, weight=float("inf")), "WeightInvalid"),
        (pair(1, weight=-1), "WeightInvalid"),
        (pair(1, weight=10**400), "WeightInvalid"),
        (pair(1, weight=True), "WeightInvalid"),
        (pair(1, origin="robot"), "OriginUnknown"),
        (pair(1, kind="guess"), "KindUnknown"),
        (pair(1, group=["a"]), "FieldType"),
        (pair(1, group="g" * 600), "FieldTooLong"),
        (pair(1, id=10**5000), "FieldTooLong"),
        (pair(1, time="yesterday"), "TimeInvalid"),
        (pair(1, time=-5), "TimeInvalid"),
        (pair(1, time=1e300), "TimeInvalid"),
        (pair(1, time=10**400), "TimeInvalid"),
        (pair(1, time=float("nan")), "TimeInvalid"),
        (
            {"prompt": [{"role": "pirate", "content": "a"}], "chosen": [GOOD], "rejected": [BAD]},
            "RoleUnknown",
        ),
        ({"prompt": [{"role": "user"}], "chosen": [GOOD], "rejected": [BAD]}, "MessageInvalid"),
        (
            {"prompt": [{"role": "user", "content": [1]}], "chosen": [GOOD], "rejected": [BAD]},
            "MessageInvalid",
        ),
        ({"prompt": ["hello"], "chosen": [GOOD], "rejected": [BAD]}, "MessageInvalid"),
        ({"prompt": [], "chosen": [GOOD], "rejected": [BAD]}, "FieldType"),
        ([1, 2], "NotAnObject"),
        ("text", "NotAnObject"),
        (None, "NotAnObject"),
        ({}, "FormatUnknown"),
        ({"prompt": [USER | {"extra": nested(65)}], "chosen": [GOOD], "rejected": [BAD]}, "MessageInvalid"),
        (
            {"prompt": [USER], "chosen": [GOOD | {"tool_calls": [nested(65)]}], "rejected": [BAD]},
            "MessageInvalid",
        ),
    ],
)
def test_a_faulty_row_is_refused_with_its_code(row: object, expected: str) -> None:
    assert code(row) == expected


def test_optional_columns_travel_with_a_pair() -> None:
    columns = {"id": 17, "group": "thread-9", "actor": "ann", "cohort": "north", "model": "m1", "weight": 0.5}
    found = read(pair(1, time="2026-01-05T14:00:00+02:00", origin="Synthetic", **columns))
    assert (found.id, found.group, found.actor, found.cohort, found.model) == (
        "17",
        "thread-9",
        "ann",
        "north",
        "m1",
    )
    assert (found.weight, found.time, found.origin) == (0.5, "2026-01-05T12:00:00.000000Z", Origin.SYNTHETIC)


@pytest.mark.parametrize(
    "moment", [1767614400, 1767614400.0, 1767614400000, "2026-01-05T12:00:00Z", "2026-01-05T12:00"]
)
def test_a_time_is_read_in_the_usual_ways(moment: Any) -> None:
    assert read(pair(1, time=moment)).time == "2026-01-05T12:00:00.000000Z"


def test_a_row_of_any_depth_is_read_or_refused_and_ends_nothing(tmp_path: Path) -> None:
    deep = [
        {"prompt": [USER | {"extra": nested(n), "at": n}], "chosen": [GOOD], "rejected": [BAD]}
        for n in (20, 60, 70, 600)
    ]
    # Reading JSON and writing it reach the interpreter's limit at different depths; half a surrogate pair has it written.
    lines = ['{"a":' * n + '"\\ud83d"' + "}" * n for n in range(800, 1000)]
    found = prepared(tmp_path, [*deep, *lines])
    assert found.funnel.pairs == 2
    assert (found.reasons[3], found.reasons[4]) == ("MessageInvalid", "MessageInvalid")
    assert found.funnel.invalid == 2 + len(lines)


# OpenAI, Azure, Together, Fireworks.


def test_the_openai_form_becomes_a_conversation() -> None:
    found = read(OPENAI)
    assert (found.prompt, found.chosen, found.rejected) == ([USER], [GOOD], [BAD])


def test_tools_are_kept_with_the_first_message() -> None:
    tools = [{"type": "function", "function": {"name": "distance", "parameters": {}}}]
    found = read(OPENAI | {"input": {"messages": [USER], "tools": tools, "parallel_tool_calls": True}})
    assert isinstance(found.prompt, list)
    assert found.prompt[0]["tools"] == tools


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"preferred_output": []}, "FieldType"),
        ({"preferred_output": [GOOD, GOOD]}, "OutputInvalid"),
        ({"non_preferred_output": [USER]}, "OutputInvalid"),
        ({"input": {"messages": [USER, GOOD]}}, "PromptEndsWithAssistant"),
        ({"input": "Moon?"}, "FieldMissing"),
        ({"input": {"messages": [USER], "tools": "none"}}, "FieldType"),
        ({"input": {"messages": [USER], "tools": [nested(65)]}}, "MessageInvalid"),
    ],
)
def test_a_faulty_openai_row_is_refused(change: dict[str, Any], expected: str) -> None:
    assert code(OPENAI | change) == expected


# Transcripts.


def test_a_transcript_is_cut_at_the_last_assistant_turn_not_where_the_texts_part() -> None:
    found = read(TRANSCRIPT)
    assert found.chosen == [{"role": "assistant", "content": "I think it is far."}]
    assert found.rejected == [{"role": "assistant", "content": "I think it is cheese."}]
    assert [m["role"] for m in found.prompt if isinstance(m, dict)] == ["user", "assistant", "user"]


def test_an_answer_that_quotes_a_marker_within_a_line_is_left_whole() -> None:
    texts = {k: v + " He said Assistant: hello" for k, v in TRANSCRIPT.items()}
    found = read(texts)
    assert found.chosen == [{"role": "assistant", "content": "I think it is far. He said Assistant: hello"}]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"rejected": "\n\nHuman: Hello\n\nAssistant: Go.\n\nHuman: Moon?\n\nAssistant: Far."},
            "TranscriptsPart",
        ),
        ({"rejected": "\n\nHuman: Hello\n\nAssistant: Hi!"}, "TranscriptsPart"),
        ({"rejected": TRANSCRIPT["rejected"].replace("I think it is cheese.", " ")}, "TextEmpty"),
        ({k: v.replace("\n\nHuman: Moon?", "") for k, v in TRANSCRIPT.items()}, "TranscriptInvalid"),
    ],
    ids=["parted earlier", "fewer turns", "empty answer", "two answers in a row"],
)
def test_transcripts_that_are_not_two_answers_to_one_prompt_are_quarantined(
    change: dict[str, str], expected: str
) -> None:
    assert code(TRANSCRIPT | change, SourceFormat.TRANSCRIPT) == expected


# Choosing.


def test_every_row_of_a_mixed_file_is_recognised_by_itself(tmp_path: Path) -> None:
    rows = [edit(1), pair(2), OPENAI | {"group": "o"}, TRANSCRIPT | {"group": "t"}]
    assert prepared(tmp_path, rows).funnel.pairs == 4


def test_a_forced_format_refuses_rows_of_another(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "x.jsonl", [edit(1), pair(2)])
    found = prepared(tmp_path, sources=[{"uri": uri, "format": "Pairs"}])
    assert found.reasons == {1: "FieldMissing"}


def test_what_a_row_calls_its_fields_is_never_told(tmp_path: Path) -> None:
    """A table without a header has texts for names, and this sentence goes to terminals and status."""
    row = {"\u001b[2JJohn Smith MRN 12345": 1, "chosen": "a", "group": "g"}
    found = prepared(tmp_path, [row, {"John Smith": 1}])
    first, second = (left["message"] for left in found.quarantine)
    assert first == "no format is told by chosen, group alone; docs/data.md has those that each needs"
    assert second == "no format knows any of the row's fields; docs/data.md has those that each needs"


def test_every_field_that_is_read_is_known(tmp_path: Path) -> None:
    """Columns of a parquet file that are not among these are not even read."""

    class Asked(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            asked.add(key)
            return super().__contains__(key)

        def __getitem__(self, key: str) -> Any:
            asked.add(key)
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return super().get(key, default)

    asked: set[object] = set()
    for row in (edit(1), edit(1, signal="prefer", other="b"), pair(1), OPENAI, TRANSCRIPT):
        read_row(Asked(row), PLACE, SourceFormat.AUTO)
    assert asked == FIELDS


def test_each_format_has_one_entry() -> None:
    assert set(FORMATS) == set(SourceFormat) - {SourceFormat.AUTO}


def test_an_event_is_read_with_its_signal() -> None:
    found = read_row(edit(1, model="m"), PLACE, SourceFormat.AUTO)
    assert isinstance(found, Event)
    assert code(edit(1, signal="shrug")) == "SignalUnknown"
    assert code({k: v for k, v in edit(1).items() if k != "edited"}) == "FieldMissing"
    assert code({"signal": "prefer", "prompt": "a", "response": "b"}) == "FieldMissing"
    assert code(edit(1, response=["a"])) == "FieldType"
