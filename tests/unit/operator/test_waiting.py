"""Why a Job waits, in the cluster's own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from alignment_operator.errors import ApiError
from alignment_operator.limiter import TokenBucket
from alignment_operator.queue import Key
from alignment_operator.records import job_record, pod_record
from alignment_operator.waiting import WaitingWords
from support.objects import job, pod


class Answers:
    """What the gateway would bring."""

    def __init__(
        self,
        events: Sequence[dict[str, Any]] = (),
        workloads: Sequence[dict[str, Any]] = (),
        warnings: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.events, self.workloads, self.warnings = list(events), list(workloads), list(warnings)
        self.asked = 0
        self.fails = False

    async def job_refusals(self, job: Key, uid: str) -> list[dict[str, Any]]:
        self.asked += 1
        if self.fails:
            raise ApiError(503, "", "away")
        return self.events

    async def pod_warnings(self, pod: Key, uid: str) -> list[dict[str, Any]]:
        self.asked += 1
        return self.warnings

    async def workloads_of_job(self, job: Key, uid: str) -> list[dict[str, Any]]:
        self.asked += 1
        return self.workloads


def workload(*conditions: tuple[str, str, str, str]) -> dict[str, Any]:
    return {
        "status": {
            "conditions": [{"type": t, "status": s, "reason": r, "message": m} for t, s, r, m in conditions]
        }
    }


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def words(answers: Answers, clock: Clock, *, kueue: bool = True) -> WaitingWords:
    bucket = TokenBucket(1.0, 3, clock)
    return WaitingWords(answers, kueue=kueue, bucket=bucket, clock=clock)  # type: ignore[arg-type]


async def test_a_young_job_is_not_asked_about() -> None:
    answers, clock = Answers([{"reason": "FailedCreate", "message": "exceeded quota"}]), Clock()
    subject = words(answers, clock)
    assert await subject.of(job_record(job(1))) == ""
    assert answers.asked == 0
    clock.now += 4
    assert await subject.of(job_record(job(1))) == "FailedCreate: exceeded quota"


async def test_the_newest_refusal_counts_and_is_asked_for_only_once_in_a_while() -> None:
    events = [
        {"reason": "FailedCreate", "message": "new", "lastTimestamp": "2026-01-05T12:01:00Z"},
        {"reason": "FailedCreate", "message": "old", "lastTimestamp": "2026-01-05T12:00:00Z"},
    ]
    answers, clock = Answers(events), Clock()
    subject = words(answers, clock)
    await subject.of(job_record(job(1)))
    for _ in range(10):
        clock.now += 4
        assert await subject.of(job_record(job(1))) == "FailedCreate: new"
    assert answers.asked <= 4


async def test_a_job_that_waits_long_is_asked_about_less_and_less() -> None:
    answers, clock = Answers([{"reason": "FailedCreate", "message": "quota"}]), Clock()
    subject = words(answers, clock)
    record = job_record(job(1))
    await subject.of(record)
    pauses = []
    for _ in range(8):
        clock.now += subject.pause(record)
        await subject.of(record)
        pauses.append(subject.pause(record))
    assert pauses == [10.0, 20.0, 40.0, 80.0, 120.0, 120.0, 120.0, 120.0]


async def test_thousands_of_waiting_jobs_share_one_rate_of_questions() -> None:
    answers, clock = Answers([{"reason": "FailedCreate", "message": "quota"}]), Clock()
    subject = words(answers, clock)
    records = [job_record(job(1, uid=f"job-{number}")) for number in range(2000)]
    for record in records:
        await subject.of(record)
    clock.now += 4
    for record in records:
        await subject.of(record)
    assert answers.asked == 3
    assert sum(subject.pause(record) < 60 for record in records) == 3


async def test_what_was_learnt_stays_while_the_server_is_away() -> None:
    answers, clock = Answers([{"reason": "FailedCreate", "message": "quota"}]), Clock()
    subject = words(answers, clock)
    await subject.of(job_record(job(1)))
    clock.now += 20
    await subject.of(job_record(job(1)))
    answers.fails = True
    clock.now += 20
    assert await subject.of(job_record(job(1))) == "FailedCreate: quota"


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        (
            [("QuotaReserved", "False", "Pending", "insufficient quota for gpu")],
            "Kueue: insufficient quota for gpu",
        ),
        (
            [
                ("QuotaReserved", "False", "Pending", "waiting for quota"),
                ("Evicted", "True", "Preempted", "by a higher priority"),
            ],
            "Kueue: waiting for quota (Preempted)",
        ),
        (
            [("QuotaReserved", "True", "", ""), ("Admitted", "False", "Checks", "waiting for a check")],
            "Kueue: waiting for a check",
        ),
        ([], ""),
    ],
)
async def test_kueue_is_quoted(conditions: list[tuple[str, str, str, str]], told: str) -> None:
    answers, clock = Answers(workloads=[workload(*conditions)]), Clock()
    subject = words(answers, clock)
    record = job_record(job(1, suspend=True))
    await subject.of(record)
    clock.now += 4
    assert await subject.of(record) == told


async def test_a_pod_that_does_not_start_is_asked_about_instead_of_its_job() -> None:
    mount = {"reason": "FailedMount", "message": 'configmap "ca" not found'}
    answers, clock = Answers(warnings=[mount]), Clock()
    subject = words(answers, clock)
    record, starting = job_record(job(1)), pod_record(pod(2))
    await subject.of(record, starting)
    clock.now += 4
    assert await subject.of(record, starting) == 'FailedMount: configmap "ca" not found'
    answers.warnings = []
    clock.now += 11
    assert await subject.of(record, starting) == (
        "notes-train-1-x has a node, which pulls the image and mounts the volumes."
    )


async def test_without_kueue_nobody_asks_for_workloads() -> None:
    answers, clock = Answers(workloads=[workload()]), Clock()
    subject = words(answers, clock, kueue=False)
    record = job_record(job(1, suspend=True))
    await subject.of(record)
    clock.now += 4
    assert await subject.of(record) == ""
    assert answers.asked == 0
