"""Every reason has its sentence and its entry in the documentation."""

from __future__ import annotations

from alignment_api.conditions import SENTENCES, TERMINAL, Reason
from alignment_api.exitcodes import ALIGN_SENTENCES, STAGE_SENTENCES, AlignExit, ExitFamily, StageExit, family


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Reason)
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())


def test_terminal_reasons_are_reasons() -> None:
    assert set(Reason) >= TERMINAL


def test_exit_codes_have_their_family() -> None:
    assert [family(code) for code in (0, 64, 65, 75, 143, 1, 137)] == [
        ExitFamily.DONE,
        ExitFamily.FINAL,
        ExitFamily.FINAL,
        ExitFamily.COUNTED,
        ExitFamily.UNCOUNTED,
        ExitFamily.COUNTED,
        ExitFamily.COUNTED,
    ]


def test_every_exit_code_has_a_sentence() -> None:
    assert set(STAGE_SENTENCES) == set(StageExit)
    assert set(ALIGN_SENTENCES) == set(AlignExit)
