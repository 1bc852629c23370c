"""Win rate and standard error by AlpacaEval's definitions, from a file of preferences."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignment_trainer.errors import DataError
from alignment_trainer.evaluation.alpaca import alpaca_win_rate, read_preferences

ROWS = [2.0, 1.0, 1.5, None, 1.9, 0, 1.2, 2.0]


def test_win_rate_is_the_mean_and_the_error_that_of_the_mean_nulls_left_out_draws_half() -> None:
    found = alpaca_win_rate(ROWS)
    scores = [1.0, 0.0, 0.5, 0.9, 0.5, 0.2, 1.0]
    assert found.win_rate == pytest.approx(100 * statistics.mean(scores))
    assert found.standard_error == pytest.approx(100 * statistics.stdev(scores) / math.sqrt(7))
    assert (found.wins, found.losses, found.draws) == (3, 2, 2)
    assert (found.total, found.missing) == (7, 1)


def test_not_a_number_is_left_out_like_null() -> None:
    assert alpaca_win_rate([math.nan, 2.0, 1.0]).missing == 1


@pytest.mark.parametrize("preference", [0.5, 2.1, -1.0])
def test_a_preference_outside_one_to_two_is_refused_and_named(preference: float) -> None:
    with pytest.raises(DataError, match=f"comparison 2: preference {preference:g}"):
        alpaca_win_rate([1.0, preference])


def test_no_preference_at_all_is_no_win_rate() -> None:
    with pytest.raises(DataError, match="no comparison has a preference"):
        alpaca_win_rate([None])


@pytest.mark.parametrize("lines", [False, True], ids=["a list", "JSON lines"])
def test_a_file_of_annotations_is_read_in_either_form(tmp_path: Path, lines: bool) -> None:
    rows = [{"preference": p, "instruction": "…", "output_1": "a", "output_2": "b"} for p in ROWS]
    file = tmp_path / "annotations.json"
    file.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), encoding="utf-8")
    assert read_preferences(file) == ROWS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'[{"preference": "2"}]', "row 1 has no number"),
        (b"[1, 2", "not JSON at line 1, column 6"),
        (b"[1,\n 2,\n x]", "not JSON at line 3, column 2"),
        (b'{"preference": 1}\n\n{"preference": 2}\n{"preference": \n', "not JSON at line 4, column 16"),
        (b"[" * 5000, "not JSON at line 1"),
        (b"[1, " + b"9" * 5000 + b"]", "not JSON at line 1"),
        ('{"preference": 1, "output": "é"}'.encode("latin-1"), "is not UTF-8 .from byte 29 on"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "annotations.json"
    file.write_bytes(text)
    with pytest.raises(DataError, match=words):
        read_preferences(file)


@pytest.mark.parametrize("text", ['[{"preference": 2}]', '{"preference": 2}\n'], ids=["a list", "JSON lines"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(text, encoding="utf-8-sig")
    assert read_preferences(file) == [2]


def test_align_gate_win_rate_prints_it(tmp_path: Path) -> None:
    from alignment_cli.main import app

    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([{"preference": p} for p in ROWS]), encoding="utf-8")
    done = CliRunner().invoke(app, ["gate", "win-rate", str(file), "-o", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["winRate"] == pytest.approx(58.571, abs=1e-3)


def test_one_comparison_has_no_error_and_json_no_nan(tmp_path: Path) -> None:
    from alignment_cli.main import app

    file = tmp_path / "annotations.json"
    file.write_text("[2]", encoding="utf-8")
    done = CliRunner().invoke(app, ["gate", "win-rate", str(file), "-o", "json"])
    assert "NaN" not in done.output
    assert json.loads(done.output)["standardError"] is None
    assert (
        "100.00 % ± unknown (standard error): 1 wins"
        in CliRunner().invoke(app, ["gate", "win-rate", str(file)]).output
    )
