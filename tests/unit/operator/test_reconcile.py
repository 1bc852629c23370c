"""The reconciler in situations that no story of the fault ladder has. Each is played on the ladder's rig."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alignment_api.names import (
    LABEL_ATTEMPT,
    LABEL_RUN,
    LABEL_STAGE,
    REQUEST_ANNOTATION,
    STAGES,
    StageName,
)
from alignment_api.stage import StageRequest, StageResult
from alignment_operator.gateway import JOBS
from faults.rig import NAMESPACE, RUN, Rig, Scenario, Step, is_over
from support.apiserver import Json, ServerError, over_the_wire
from support.kubelet import job_of
from support.objects import job
from support.runs import FAILED, PASSED, result


def stranger(rig: Rig) -> None:
    raw = job(1, stage="prepare")
    raw["metadata"] |= {"labels": {}, "ownerReferences": []}
    raw["spec"] = {"suspend": True}
    rig.server.create("jobs", raw)


async def test_a_foreign_job_of_the_same_name_is_left_alone_and_told_of() -> None:
    def told(rig: Rig) -> bool:
        return rig.reason == "NameConflict"

    seen: list[Json] = []

    def remove(rig: Rig) -> None:
        key = ("jobs", NAMESPACE, "notes-prepare-1")
        seen.append(rig.server.objects[key])
        rig.server.remove(key)

    rig = await Rig(Scenario("foreign", prepare=stranger, steps=(Step(told, remove),))).play()
    assert seen[0]["metadata"]["ownerReferences"] == []
    assert rig.reason == "Published"


async def test_a_job_in_another_namespace_that_claims_the_run_decides_nothing() -> None:
    def forge(rig: Rig) -> None:
        raw = over_the_wire(job_of(rig.server, StageName.EVALUATE))
        raw["metadata"] |= {"name": "notes-evaluate-99", "namespace": "elsewhere", "uid": "forged"}
        raw["metadata"]["labels"][LABEL_ATTEMPT] = "99"
        annotations = raw["spec"]["template"]["metadata"]["annotations"]
        request = json.loads(annotations[REQUEST_ANNOTATION])
        annotations[REQUEST_ANNOTATION] = json.dumps(request | {"attempt": 99})
        rig.server.create("jobs", {**raw, "status": {}})

    def answer(request: StageRequest) -> StageResult:
        if request.stage is not StageName.EVALUATE:
            return result(request.stage, request)
        return result(request.stage, request, evidence=PASSED if request.attempt == 99 else FAILED)

    def forged_is_over(rig: Rig) -> bool:
        forged = job_of(rig.server, StageName.EVALUATE, 99)
        return forged is not None and is_over(forged)

    scenario = Scenario(
        "forged",
        script={"evaluate": ["hold"]},
        answer=answer,
        steps=(
            Step(lambda rig: rig.reason == "Evaluating", forge),
            Step(forged_is_over, lambda rig: rig.kubelet.release()),
        ),
    )
    rig = await Rig(scenario).play()
    assert rig.reason == "GateFailed"
    assert rig.created_jobs() == [f"notes-{s}" for s in ("prepare-1", "train-1", "evaluate-1", "evaluate-99")]
    assert not [path for method, path in rig.server.requests if method == "DELETE"]


async def test_a_job_that_runs_on_after_its_run_has_finished_is_stopped() -> None:
    def finish(rig: Rig) -> None:
        raw = job(1)
        raw["metadata"]["ownerReferences"][0]["uid"] = rig.server.objects[RUN]["metadata"]["uid"]
        raw["spec"] |= {"suspend": True, "parallelism": 1}
        rig.server.create("jobs", raw)
        conditions = [
            {
                "type": "Succeeded",
                "status": "False",
                "reason": "Rejected",
                "lastTransitionTime": "2026-01-05T12:00:00Z",
            }
        ]
        rig.server.change(RUN, status={"conditions": conditions})

    rig = await Rig(Scenario("finished", prepare=finish)).play()
    assert rig.server.of("jobs") == []
    assert rig.created_jobs() == ["notes-train-1"]


async def test_a_job_that_waits_for_a_pod_on_a_dead_node_does_not_keep_its_run_suspended() -> None:
    def train_job(rig: Rig) -> Json | None:
        return job_of(rig.server, StageName.TRAIN)

    scenario = Scenario(
        "suspended on a dead node",
        script={"train": ["die", "done"]},
        steps=(
            Step(lambda rig: bool(rig.kubelet.dead), lambda rig: rig.change_spec(suspend=True)),
            Step(
                lambda rig: "deletionTimestamp" in (train_job(rig) or {}).get("metadata", {}), lambda _: None
            ),
            Step(lambda rig: train_job(rig) is None, lambda rig: rig.change_spec(suspend=False)),
        ),
    )
    rig = await Rig(scenario).play()
    assert rig.reason == "Published"
    assert rig.created_jobs().count("notes-train-2") == 1
    assert rig.server.idle_writes == []


async def test_a_job_whose_labels_somebody_takes_away_goes_on_as_what_it_is() -> None:
    def take_label(rig: Rig) -> None:
        raw = over_the_wire(job_of(rig.server, StageName.TRAIN))
        del raw["metadata"]["labels"][LABEL_RUN]
        rig.server.change(("jobs", NAMESPACE, "notes-train-1"), metadata=raw["metadata"])

    scenario = Scenario(
        "unlabelled",
        script={"train": ["hold"]},
        steps=(
            Step(lambda rig: rig.reason == "Training", take_label),
            Step(lambda rig: rig.now > 700, lambda rig: rig.kubelet.release()),
        ),
    )
    rig = await Rig(scenario).play()
    assert rig.reason == "Published"
    assert rig.created_jobs() == [f"notes-{stage}-1" for stage in STAGES]
    assert len(rig.server.requests) < 100


async def test_a_quota_that_refuses_the_job_is_told_in_its_own_words_until_it_lets_it_through() -> None:
    messages: list[str] = []

    def refuse(plural: str, item: Json) -> None:
        if plural == "jobs" and len(messages) < 2:
            raise ServerError(403, "Forbidden", "exceeded quota: gpus, requested: 1, used: 8, limited: 8")

    def prepare(rig: Rig) -> None:
        rig.refuse = refuse

    def note(rig: Rig) -> None:
        assert rig.run is not None
        summary: Any = next(c for c in rig.run["status"]["conditions"] if c["type"] == "Succeeded")
        messages.append(summary["message"])

    refused = Step(lambda rig: rig.reason == "LaunchRefused", note)
    rig = await Rig(Scenario("quota", prepare=prepare, steps=(refused, refused))).play()
    assert "exceeded quota: gpus" in messages[0]
    assert rig.reason == "Published"
    assert rig.server.idle_writes == []


async def test_news_are_written_once_and_only_where_they_say_something() -> None:
    rig = await Rig(Scenario("published")).play()
    reasons = [item["reason"] for item in rig.server.of("events")]
    assert reasons[0] == "Queued"
    assert reasons[-1] == "Published"
    assert {"Preparing", "Training", "Evaluating", "Publishing", "Passed"} <= set(reasons)
    assert reasons.count("Training") == 1


async def test_a_run_that_another_version_wrote_says_so_once_and_goes_on_when_it_can_be_read() -> None:
    said: list[Json] = []

    def of_another_version(rig: Rig) -> None:
        assert rig.run is not None
        rig.server.change(RUN, status={"verdictOfTomorrow": {"by": "a later version"}})
        rig.change_spec(newField="secret words")

    def readable_again(rig: Rig) -> None:
        assert rig.run is not None
        said.append(rig.run["status"])
        spec = dict(rig.run["spec"])
        del spec["newField"]
        rig.server.change(RUN, spec=spec)

    told = Step(lambda rig: rig.reason == "Unreadable" and rig.now > 1300, readable_again)
    rig = await Rig(Scenario("newer", prepare=of_another_version, steps=(told,))).play()
    (summary,) = said[0]["conditions"]
    assert summary["status"] == "Unknown"
    assert "spec.newField: Extra inputs are not permitted" in summary["message"]
    assert "secret words" not in str(said)
    assert said[0]["verdictOfTomorrow"] == {"by": "a later version"}
    assert [item["reason"] for item in rig.server.of("events")].count("Unreadable") == 1
    assert rig.server.idle_writes == []
    assert rig.reason == "Published"


async def test_a_job_that_ends_while_its_words_are_asked_for_loses_no_result() -> None:
    class Behind(Rig):
        """While the operator asks why publish waits, it runs and ends; the watch of pods is behind that of Jobs."""

        async def request(
            self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
        ) -> tuple[int, Mapping[str, str], Any]:
            answer = await super().request(method, path, query, body, content_type)
            waits = any(j["metadata"]["name"] == "notes-publish-1" for j in self.server.of("jobs"))
            if self.kubelet.full and waits and (method, path.rsplit("/", 1)[-1]) == ("GET", "events"):
                self.kubelet.full.clear()
                while self.kubelet.step():
                    pass
                for raw in self.server.of("jobs"):
                    self.intake.watched(JOBS, "MODIFIED", raw)
            return answer

    def no_room(rig: Rig) -> None:
        rig.kubelet.full.add("publish")

    rig = await Behind(Scenario("behind", prepare=no_room)).play()
    assert not rig.kubelet.full, "the words were asked for"
    assert rig.reason == "Published"
    assert "notes-publish-2" not in rig.created_jobs()


QUOTA = "Kueue: couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu"


async def test_a_job_that_its_queue_holds_back_says_why_within_seconds_though_nothing_happens_to_it() -> None:
    class Queued(Rig):
        """Kueue holds train back, and says so in its Workload."""

        async def request(
            self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
        ) -> tuple[int, Mapping[str, str], Any]:
            if not path.endswith("/workloads"):
                return await super().request(method, path, query, body, content_type)
            words = QUOTA.removeprefix("Kueue: ")
            status = {"conditions": [{"type": "QuotaReserved", "status": "False", "message": words}]}
            return 200, {}, {"items": [{"status": status}]}

    def hold_back(rig: Rig) -> None:
        def suspend(plural: str, item: Json) -> None:
            if plural == "jobs" and item["metadata"]["labels"][LABEL_STAGE] == "train":
                item["spec"]["suspend"] = True

        rig.refuse = suspend

    told: list[float] = []

    def admit(rig: Rig) -> None:
        told.append(rig.now)
        (train,) = (item for item in rig.server.of("jobs") if item["metadata"]["name"] == "notes-train-1")
        key = ("jobs", NAMESPACE, "notes-train-1")
        rig.server.change(key, spec={**train["spec"], "suspend": False})

    def says_why(rig: Rig) -> bool:
        conditions = ((rig.run or {}).get("status") or {}).get("conditions") or []
        return any(c["type"] == "Succeeded" and c["message"] == QUOTA for c in conditions)

    rig = await Queued(Scenario("queued", prepare=hold_back, steps=(Step(says_why, admit),))).play()
    assert told[0] < 10
    assert rig.reason == "Published"
    assert rig.server.idle_writes == []
