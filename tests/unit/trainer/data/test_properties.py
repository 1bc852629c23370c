"""For all rows: the funnel adds up, the split holds. For all bytes: accept, quarantine, or stop with exit code 65."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tools.bench.fuzz_data import CORPUS, outcome

from support.preparing import Prepared, prepared, write_rows

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Small pools, so that ids, texts, groups and times meet.
names = st.sampled_from(["", "a", "b", "c", "d"])
texts = st.sampled_from(
    [
        "The garden is green and large.",
        "The garden is green and large!",
        "the GARDEN is green  and large.",
        "A small garden with an old tree.",
        "A small garden with an old tree and a bench.",
        "Nothing at all like the others, really.",
        "\u0000",
        "Cafe\u0301 au lait <|end|>",
    ]
)
prompts = st.one_of(
    texts,
    texts.map(lambda t: [{"role": "user", "content": t}]),
    st.integers(0, 9).map(lambda n: f"Question {n}"),
)
times = st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00+05:00", 1767614400, "soon"])
common = {"group": names, "actor": names, "cohort": names, "time": times}
events = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["e1", "e2", "e3", "e4", "e5", "e6", "e7"]),
        "prompt": prompts,
        "response": texts,
        "signal": st.sampled_from(
            ["accept", "edit", "edit", "edit", "thumbs_up", "thumbs_down", "prefer", "shrug"]
        ),
        "edited": texts,
        "other": texts,
        **common,
    }
)
pairs = st.fixed_dictionaries(
    {
        "prompt": texts,
        "chosen": texts,
        "rejected": texts,
        "origin": st.sampled_from(["human", "synthetic"]),
        **common,
    }
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "chosen", "rejected", "signal", "response", "input", "role", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
rows = st.lists(st.one_of(events, events, pairs, anything), max_size=40)
specs = st.fixed_dictionaries(
    {
        "events": st.fixed_dictionaries({"chains": st.sampled_from(["Collapse", "Separate"])}),
        "contradictions": st.sampled_from(["Drop", "Keep"]),
        "maximumSyntheticFraction": st.sampled_from([0.0, 0.3, 1.0]),
        "holdout": st.fixed_dictionaries(
            {"fraction": st.sampled_from([0.2, 0.5]), "groupBy": st.sampled_from(["group", "conversation"])}
        ),
        "redaction": st.sampled_from([{"mode": "None"}, {"mode": "Refuse", "detectors": ["dates"]}]),
    }
)


def with_folder(test: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        test(Path(folder))


def snapshot(result: Prepared) -> Any:
    funnel = result.funnel.model_dump()
    return [p.content for p in result.train], [p.content for p in result.holdout], funnel


@few
@given(rows=rows, spec=specs, banned=names)
def test_every_row_is_in_exactly_one_count(rows: list[Any], spec: dict[str, Any], banned: str) -> None:
    """``prepared`` asserts that the funnel and the quarantine add up."""

    def check(folder: Path) -> None:
        data = dict(spec)
        if banned:
            data["exclusions"] = [{"uri": write_rows(folder / "gone.jsonl", [{"actor": banned}])}]
        lines = [json.dumps(row) for row in rows]
        found = prepared(folder, lines, special=frozenset({"<|end|>"}), **data)
        assert found.funnel.rows == len(lines)
        assert not banned or all(banned not in (p.actor, *p.other_actors) for p in found.pairs)
        assert all(p.chosen != p.rejected for p in found.pairs)
        assert all(not p.synthetic for p in found.holdout)

    with_folder(check)


@few
@given(rows=rows, spec=specs, data=st.data())
def test_nothing_is_on_both_sides_and_order_of_files_changes_nothing(
    rows: list[Any], spec: dict[str, Any], data: st.DataObject
) -> None:
    def check(folder: Path) -> None:
        cut = data.draw(st.integers(0, len(rows)))
        lines = [json.dumps(row) for row in rows]
        sources = [
            {"uri": write_rows(folder / f"{n}.jsonl", part)}
            for n, part in enumerate((lines[:cut], lines[cut:]))
        ]
        one = prepared(folder, sources=sources, **spec)
        two = prepared(folder, sources=sources[::-1], **spec)
        assert snapshot(one) == snapshot(two)
        for key in (lambda p: p.question, lambda p: p.pair_id):
            assert not {key(p) for p in one.train} & {key(p) for p in one.holdout}
        if spec["holdout"]["groupBy"] == "group":
            assert not {p.group for p in one.train if p.group} & {p.group for p in one.holdout if p.group}

    with_folder(check)


@few
@given(before=rows, added=rows)
def test_more_rows_move_no_group(before: list[Any], added: list[Any]) -> None:
    def check(folder: Path) -> None:
        one = prepared(folder, [json.dumps(row) for row in before], holdout={"fraction": 0.5})
        two = prepared(folder, [json.dumps(row) for row in [*before, *added]], holdout={"fraction": 0.5})
        shared = (one.sides.keys() & two.sides.keys()) - {""}
        assert {group: one.sides[group] for group in shared} == {group: two.sides[group] for group in shared}

    with_folder(check)


@few
@given(
    content=st.binary(max_size=400), suffix=st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
)
def test_any_bytes_are_accepted_quarantined_or_refused(content: bytes, suffix: str) -> None:
    def check(folder: Path) -> None:
        (folder / f"x{suffix}").write_bytes(content)
        assert outcome(folder / f"x{suffix}") in ("accepted", "quarantined", "refused")

    with_folder(check)


@pytest.mark.parametrize(
    "path", [p for p in sorted(CORPUS.iterdir()) if p.suffix != ".md"], ids=lambda p: p.name
)
def test_what_once_broke_the_loader_does_so_no_more(path: Path) -> None:
    assert outcome(path) in ("accepted", "quarantined", "refused")
