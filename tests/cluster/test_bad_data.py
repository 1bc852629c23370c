"""Data that is wrong stays wrong: the run ends at once, names the line, and nothing is tried again."""

from __future__ import annotations

from support.cluster import Team, reason


def test_bad_rows_end_the_run_with_the_place_and_the_fix_and_no_second_attempt(notes: Team) -> None:
    notes.put("rows.jsonl", '{"id": "a", "prompt": "p"}\nnot json\n')
    notes.apply(backoffLimit=3)
    status = notes.until_ended()
    assert reason(status) == "DataInvalid", notes.story()
    assert status["lastFailure"]["exitCode"] == 65
    assert "rows.jsonl" in status["lastFailure"]["message"]
    assert list(notes.jobs()) == ["notes-prepare-1"]


def test_credentials_that_are_not_there_show_in_the_status_while_the_pod_waits(notes: Team) -> None:
    notes.kubectl("-n", notes.name, "delete", "secret", "s3")
    notes.apply()
    told = notes.until(
        "the status names the missing secret", lambda s: 'secret "s3" not found' in message(s), seconds=120
    )
    assert reason(told) not in ("Published", "StageFailed")


def message(status: dict[str, object]) -> str:
    return str(status.get("conditions", "")).replace("\\", "")
