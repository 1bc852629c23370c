"""Identifiers: found by name, replaced or refused before anything is written, counted."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from alignment_api.spec import Redaction
from alignment_trainer.data import redaction
from alignment_trainer.data.redaction import DETECTORS, Redactor
from alignment_trainer.errors import RequestError
from support.preparing import edit, pair, prepared

EXAMPLES = {
    "dates": ["2026-01-31", "1/31/2026", "31.01.26", "January 31, 2026", "31 Jan 2026", "Mar. 3rd"],
    "phones": ["555-123-4567", "(555) 123-4567", "+1 555 123 4567", "+4930123456789"],
    "emails": ["jo.doe+x@clinic.example.org"],
    "recordNumbers": [
        "MRN 1234567",
        "MRN: 12-34567",
        "medical record number 998877",
        "Account no. 445566",
        "Case #12345",
    ],
    "socialSecurityNumbers": ["123-45-6789"],
    "urls": ["https://chart.example.org/p/17?x=1"],
    "ipAddresses": ["10.12.0.255"],
    "ages": ["93-year-old", "101 years old"],
}
HARMLESS = [
    "Take 3 tablets at 8.30 for 14 days.",
    "Version 1.2.3 of the guideline, chapter 12.",
    "Blood pressure 120/80, pulse 70, may rise.",
    "A 45-year-old with 10-20 mg daily.",
    "Room 555, ext. 12, ratio 1:2000, 300.500.700",
]


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in EXAMPLES.items() for t in texts])
def test_a_detector_finds_what_is_written_the_usual_way(tmp_path: Path, name: str, text: str) -> None:
    row = pair(1, chosen=f"Seen by us, {text}, and sent home.")
    found = prepared(tmp_path, [row], redaction={"mode": "Replace", "detectors": [name]})
    assert found.pairs[0].chosen == f"Seen by us, [{name}], and sent home."
    assert found.funnel.redacted == {name: 1}


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_numbers_are_left_alone(text: str) -> None:
    for name, detector in DETECTORS.items():
        assert list(detector(text)) == [], name


def test_every_detector_has_examples() -> None:
    assert set(EXAMPLES) == set(DETECTORS)


def test_every_text_of_a_row_is_looked_through(tmp_path: Path) -> None:
    mail = "a@b.org"
    rows: list[dict[str, Any]] = [
        edit(
            1,
            prompt=f"Write to {mail} about it.",
            response=f"Dear {mail}, we saw you and all was well.",
            edited=f"To {mail}: we met, and we found everything in order.",
        ),
        {
            "input": {
                "messages": [{"role": "user", "content": f"Who is {mail}?"}],
                "tools": [{"type": "function", "function": {"name": "mail", "description": f"asks {mail}"}}],
            },
            "preferred_output": [{"role": "assistant", "content": f"{mail} is nobody."}],
            "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
        },
    ]
    found = prepared(tmp_path, rows, redaction={"mode": "Replace", "detectors": ["emails"]})
    assert found.funnel.redacted == {"emails": 6}
    assert mail not in json.dumps([p.content for p in found.pairs])
    assert any("not de-identification" in sentence for sentence in found.funnel.warnings)


def test_nothing_that_is_found_reaches_the_disk(tmp_path: Path) -> None:
    rows = [pair(n, chosen=f"Mail n{n}@secret.example.org about garden {n}.") for n in range(50)]
    prepared(tmp_path, rows, redaction={"mode": "Replace", "detectors": ["emails"]})
    (tmp_path / "rows.jsonl").unlink()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"secret.example.org" not in path.read_bytes()


def test_refuse_leaves_the_row_out_and_counts_what_was_met(tmp_path: Path) -> None:
    rows = [pair(1, prompt="Call 555-123-4567 now about house 1."), pair(2)]
    found = prepared(tmp_path, rows, redaction={"mode": "Refuse", "detectors": ["phones", "emails"]})
    assert found.reasons == {1: "identifier"}
    assert found.funnel.redacted == {"phones": 1}
    assert [p.prompt for p in found.pairs] == [pair(2)["prompt"]]


def test_rows_that_become_equal_are_duplicates(tmp_path: Path) -> None:
    rows = [pair(1, chosen=f"Seen on 2026-01-{day}.") for day in (11, 12)]
    assert (
        prepared(tmp_path, rows, redaction={"mode": "Replace", "detectors": ["dates"]}).funnel.duplicates == 1
    )


def test_none_looks_for_nothing(tmp_path: Path) -> None:
    found = prepared(
        tmp_path, [pair(1, chosen="a@b.org")], redaction={"mode": "None", "detectors": ["emails"]}
    )
    assert found.pairs[0].chosen == "a@b.org"
    assert found.funnel.redacted == {}


# Plug-ins.


def names_in_capitals(text: str) -> list[tuple[int, int]]:
    """A detector as somebody else would write it, with spans in no order, overlapping and beyond the end."""
    start = text.find("SMITH")
    return [] if start < 0 else [(start + 2, len(text) + 10), (start, start + 3), (5, 2), (-3, 0)]


def test_an_installed_engine_plugs_in_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("capitals", "test_redaction:names_in_capitals", redaction.ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda self: names_in_capitals)
    monkeypatch.setattr(
        redaction, "entry_points", lambda group: (point,) if group == redaction.ENTRY_POINTS else ()
    )
    found = prepared(
        tmp_path,
        [pair(1, chosen="Mr SMITH, a@b.org")],
        redaction={"mode": "Replace", "detectors": ["emails", "capitals"]},
    )
    assert found.pairs[0].chosen == "Mr [capitals]"
    assert found.funnel.redacted == {"capitals": 1, "emails": 1}


def test_a_detector_that_nobody_provides_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        RequestError, match=r"names, which is not installed; there are .*emails.*phones"
    ) as refused:
        Redactor(Redaction.model_validate({"mode": "Replace", "detectors": ["names"]}))
    assert refused.value.reason == "DetectorUnknown"
