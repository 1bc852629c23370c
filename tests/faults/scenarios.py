"""The stories that the ladder tells again and again, each with another fault."""

from __future__ import annotations

from typing import Any

from alignment_api.names import StageName
from alignment_api.stage import StageRequest, StageResult
from faults.rig import NAMESPACE, RUN, Rig, Scenario, Step, is_over
from support.apiserver import Json, ServerError
from support.kubelet import job_of
from support.runs import FAILED, INCONCLUSIVE, result

__all__ = ["SCENARIOS"]


def _running(stage: StageName, attempt: int = 1) -> Any:
    """A pod of this attempt holds: it runs until it is released."""

    def holds(rig: Rig) -> bool:
        job = job_of(rig.server, stage, attempt)
        return job is not None and not is_over(job) and bool(rig.kubelet.holding)

    return holds


def _waits_for_pod(rig: Rig) -> bool:
    if not rig.kubelet.lingering:
        return True  # killed meanwhile: an operator that missed the news looks again only then
    assert rig.run is not None
    summary = next(c for c in rig.run["status"]["conditions"] if c["type"] == "Succeeded")
    return "of a deleted attempt" in summary["message"]


def _reason(reason: str) -> Any:
    return lambda rig: rig.reason == reason


def _with_evidence(evidence: Any) -> Any:
    def answer(request: StageRequest) -> StageResult:
        extra = {"evidence": evidence} if request.stage is StageName.EVALUATE else {}
        return result(request.stage, request, **extra)

    return answer


def _decide(rig: Rig) -> None:
    decision = {"result": "Approve", "by": "ml-lead", "reason": "read the report"}
    assert rig.run is not None
    rig.change_spec(gate={**rig.run["spec"].get("gate", {}), "decision": decision})


def _delete_job(rig: Rig) -> None:
    rig.server.remove(("jobs", NAMESPACE, "notes-train-1"))


def _resume(rig: Rig) -> None:
    rig.kubelet.release()
    rig.change_spec(suspend=False)


def _make_room(rig: Rig) -> None:
    rig.kubelet.full.clear()
    rig.change_spec(suspend=False)


def _preempt(rig: Rig) -> None:
    rig.kubelet.release()
    _suspend_job(rig, suspend=True)


def _suspend_job(rig: Rig, *, suspend: bool) -> None:
    key = ("jobs", NAMESPACE, "notes-train-1")
    job = rig.server.objects[key]
    rig.server.change(key, spec={**job["spec"], "suspend": suspend})


def _refuse_twice(rig: Rig) -> None:
    refusals = [403, 500]

    def refuse(plural: str, item: Json) -> None:
        if plural == "jobs" and refusals:
            code = refusals.pop(0)
            raise ServerError(code, "Forbidden", "exceeded quota, or failed calling webhook")

    rig.refuse = refuse


SCENARIOS = (
    Scenario("published"),
    Scenario("gate failed", answer=_with_evidence(FAILED)),
    Scenario(
        "attempts that fail, are stopped and lose their result",
        script={
            "prepare": ["137", "done"],
            "train": ["drain", "stop", "done"],
            "evaluate": ["lost", "75", "done"],
        },
    ),
    Scenario(
        "pods that are deleted, and removed as soon as they end",
        spec={"backoffLimit": 1},
        script={"prepare": ["delete", "1!", "done!"], "train": ["delete", "drain", "stop!", "done"]},
        forgets=True,
    ),
    Scenario("bad data", script={"prepare": ["65"]}),
    Scenario("bad data whose pod is removed", script={"prepare": ["65!"]}, forgets=True),
    Scenario("too many failures", spec={"backoffLimit": 1}, script={"train": ["1", "1"]}),
    Scenario(
        "suspended and resumed",
        script={"train": ["hold", "done"]},
        steps=(
            Step(_running(StageName.TRAIN), lambda rig: rig.change_spec(suspend=True)),
            Step(
                lambda rig: job_of(rig.server, StageName.TRAIN) is None and rig.reason == "Suspended", _resume
            ),
        ),
    ),
    Scenario(
        "suspended while it waits for room",
        spec={"backoffLimit": 0},
        prepare=lambda rig: rig.kubelet.full.add("train"),
        steps=(
            Step(
                lambda rig: job_of(rig.server, StageName.TRAIN) is not None and rig.reason == "Queued",
                lambda rig: rig.change_spec(suspend=True),
            ),
            Step(
                lambda rig: job_of(rig.server, StageName.TRAIN) is None and rig.reason == "Suspended",
                _make_room,
            ),
        ),
        swift=True,
    ),
    Scenario(
        "held and approved",
        spec={"gate": {"onInconclusive": "Hold"}},
        answer=_with_evidence(INCONCLUSIVE),
        steps=(Step(_reason("AwaitingDecision"), _decide),),
    ),
    Scenario(
        "Job deleted by hand",
        script={"train": ["linger", "done"]},
        steps=(
            Step(_running(StageName.TRAIN), _delete_job),
            Step(_waits_for_pod, lambda rig: rig.kubelet.release()),
        ),
    ),
    Scenario(
        "preempted by its queue",
        script={"train": ["hold", "done"]},
        steps=(
            Step(_running(StageName.TRAIN), _preempt),
            Step(
                lambda rig: not [p for p in rig.server.of("pods") if p["status"]["phase"] == "Running"],
                lambda rig: _suspend_job(rig, suspend=False),
            ),
        ),
    ),
    Scenario(
        "a gang, one of which is drained",
        spec={"pods": {"train": {"nodes": 2}}},
        script={"train": ["drain", "stop", "done", "done"]},
    ),
    Scenario(
        "a gang that breaks because one of it is drained",
        spec={"backoffLimit": 0, "pods": {"train": {"nodes": 2}}},
        script={"train": ["1!", "drain", "done", "done"]},
        forgets=True,
    ),
    Scenario("a node that dies", spec={"backoffLimit": 0}, script={"train": ["die", "done"]}),
    Scenario("creation refused twice", prepare=_refuse_twice),
    Scenario(
        "deleted while training",
        script={"train": ["hold"]},
        steps=(Step(_running(StageName.TRAIN), lambda rig: rig.server.remove(RUN)),),
    ),
)
