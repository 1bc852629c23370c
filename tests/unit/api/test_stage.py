"""Requests and results: stable digests, messages that fit the termination log."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_api.evidence import Evidence, MetricResult
from alignment_api.gate import decide
from alignment_api.metrics import METRICS, MetricName
from alignment_api.names import StageName
from alignment_api.stage import (
    TERMINATION_MESSAGE_BYTES,
    RunIdentity,
    StageFailure,
    StageRequest,
    StageResult,
    read_termination_message,
)
from support.runs import UID, evidence, result, run


def request(**fields: Any) -> StageRequest:
    base = run()
    identity = RunIdentity(name="notes", namespace="team", uid=UID)
    return StageRequest(**({"stage": StageName.PREPARE, "run": identity, "spec": base.spec} | fields))


def test_the_folder_is_unique_to_the_run() -> None:
    assert request().folder == "s3://artifacts/runs/team/notes-12345678/"
    assert request().result_uri == "s3://artifacts/runs/team/notes-12345678/results/prepare.json"


@pytest.mark.parametrize(
    "change",
    [
        {"attempt": 3},
        {"image": "registry/trainer@sha256:1"},
        {"spec": run(suspend=True).spec},
        {"spec": run(backoffLimit=9).spec},
        {"spec": run(pods={"queueName": "other"}).spec},
    ],
    ids=["attempt", "image", "suspend", "limits", "pods"],
)
def test_what_does_not_change_the_output_does_not_change_the_digest(change: dict[str, Any]) -> None:
    assert request(**change).input_digest == request().input_digest


def test_what_changes_the_output_changes_the_digest() -> None:
    assert request(spec=run(training={"beta": 0.5}).spec).input_digest != request().input_digest
    assert request(stage=StageName.TRAIN).input_digest != request().input_digest


def test_a_process_is_given_of_the_pods_only_how_many_train_together() -> None:
    token = {"env": [{"name": "HF_TOKEN", "value": "secret"}], "nodes": 2}
    asked = request(spec=run(pods={"serviceAccountName": "trainer", "train": token}).spec)
    given = asked.for_process()
    assert given.to_wire()["spec"]["pods"]["train"]["nodes"] == 2
    assert "secret" not in str(given.to_wire())
    assert given.input_digest == asked.input_digest


def test_a_request_survives_json() -> None:
    assert StageRequest.model_validate(json.loads(json.dumps(request().to_wire()))) == request()


def test_a_small_result_travels_as_plain_json() -> None:
    answer = result(StageName.EVALUATE)
    text = answer.to_termination_message()
    assert text.startswith("{")
    assert read_termination_message(text) == answer


@pytest.mark.parametrize("text", ["no JSON", "[]", "z:AAAA", "[" * 4096, '{"message":' * 372])
def test_a_last_word_that_is_not_in_our_form_is_no_last_word(text: str) -> None:
    assert read_termination_message(text) is None


def test_the_largest_evaluation_fits_the_termination_log() -> None:
    criteria = tuple(
        evidence(
            -0.123456789 - i,
            -0.0123456789,
            name=f"a-criterion-with-a-long-name-{i:02d}",
            p_value=0.000123456 + i / 97,
        )
        for i in range(16)
    )
    metrics = tuple(
        MetricResult(
            name=name,
            selector=f"set-{i}",
            estimate=0.1234567 * i,
            low=-0.987654 / (i + 1),
            high=0.345678,
            n=1234 + i,
            clusters=567 - i,
            method="cluster bootstrap",
            champion=0.3 + i,
            message="a sentence that says what to know about it",
        )
        for i, name in enumerate(METRICS)
    )
    answer = result(
        StageName.EVALUATE, evidence=Evidence(criteria=criteria), metrics=metrics, headline="x" * 256
    )
    text = answer.to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_BYTES
    back = read_termination_message(text)
    assert isinstance(back, StageResult)
    assert back.evidence is not None
    assert len(back.evidence.criteria) == 16
    assert back.metrics[1].estimate == pytest.approx(0.1234567, rel=1e-5)


def test_long_messages_are_cut_before_any_number_is() -> None:
    """Digits and words that hardly compress, in as many metrics and criteria as the contract allows."""
    rng = random.Random(0)

    def words(count: int) -> str:
        return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count))

    names = list(METRICS)
    metrics = tuple(
        MetricResult(
            name=names[i % len(names)],
            selector=f"set-{i}",
            estimate=rng.random(),
            low=rng.random(),
            high=rng.random(),
            n=rng.randint(100, 999),
            clusters=rng.randint(10, 99),
            design_effect=rng.random(),
            champion=rng.random(),
            method="t, CR2 by group, skewness corrected",
            message=words(20),
        )
        for i in range(32)
    )
    criteria = tuple(
        evidence(rng.random() - 2, rng.random(), name=f"c{i}", p_value=rng.random()).model_copy(
            update={"message": words(30), "needed_pairs": rng.randint(1, 9999)}
        )
        for i in range(16)
    )
    answer = result(StageName.EVALUATE, evidence=Evidence(criteria=criteria), metrics=metrics)
    text = answer.to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_BYTES
    back = read_termination_message(text)
    assert isinstance(back, StageResult)
    assert back.evidence is not None
    assert decide((), back.evidence).result is decide((), answer.evidence or Evidence()).result
    assert [m.estimate for m in back.metrics] == pytest.approx([m.estimate for m in metrics], rel=1e-5)


@given(st.text(max_size=2048))
def test_any_failure_message_fits_the_termination_log(message: str) -> None:
    text = StageFailure(
        reason="DataInvalid", message=message.encode("utf-8", "replace").decode()
    ).to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_BYTES
    back = read_termination_message(text)
    assert isinstance(back, StageFailure)
    assert back.reason == "DataInvalid"


@given(st.text())
def test_garbage_in_the_termination_log_is_nothing(text: str) -> None:
    assert read_termination_message(text) is None


def test_a_cut_message_is_nothing() -> None:
    assert read_termination_message(result(StageName.EVALUATE).to_termination_message()[:-5]) is None


def test_every_metric_has_a_row() -> None:
    assert set(METRICS) == set(MetricName)
