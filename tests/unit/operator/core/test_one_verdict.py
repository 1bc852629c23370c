"""The operator and ``align run`` reach the same verdict: one result of evaluate, seen through each one's own eyes.

The operator reads it from a pod's termination message, ``align run`` from a file of the attempt; both then ask the same
plan, which asks the same gate.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from alignment_api.conditions import ConditionType
from alignment_api.evidence import Evidence
from alignment_api.gate import decide
from alignment_api.names import LABEL_RUN_UID, STAGES, StageName
from alignment_api.run import AlignmentRun
from alignment_api.status import AlignmentRunStatus
from alignment_cli.embedded.observe import observe as observe_files
from alignment_cli.embedded.state import State
from alignment_operator.core.observed import Observed
from alignment_operator.core.plan import plan
from alignment_operator.observe import observe as observe_objects
from alignment_operator.records import job_record, pod_record
from support import objects
from support.runs import FAILED, INCONCLUSIVE, PASSED, at, evidence, result, run

from .world import World

UNTIL_GATE = STAGES[:3]
STARTED, ENDED = at(60), at(120)
LONG = "a sentence that is cut where a termination message has no room for it, " * 6


def long_winded(number: int) -> Any:
    found = evidence(-0.2, -0.1 + number / 1e7, name=f"criterion-{number}")
    return found.model_copy(update={"message": LONG})


CASES = {
    "passed": PASSED,
    "failed": FAILED,
    "inconclusive": INCONCLUSIVE,
    "on the limit": Evidence(criteria=(evidence(-0.2, 0.0),)),
    "not a number": Evidence(criteria=(evidence(-0.2, -0.1).model_copy(update={"high": None}),)),
    "only shown": Evidence(criteria=(evidence(0.1, 0.2, mode="DryRun"),)),
    "one of two": Evidence(criteria=(evidence(-0.2, -0.1), evidence(0.5, 0.6, name="length", mode="DryRun"))),
    "a limit of many digits": Evidence(criteria=(evidence(-0.2, -0.1, maximum=-0.01333333333),)),
    "a p-value that says no": Evidence(criteria=(evidence(-0.2, -0.1, p_value=0.2),)),
    "more than a message holds": Evidence(criteria=tuple(long_winded(n) for n in range(16))),
}


def message(world: World, stage: StageName) -> str:
    """The last word of a stage's attempt."""
    answer = world.attempts[f"notes-{stage}-1"].result
    assert answer is not None
    return answer.to_termination_message()


def seen_in_files(world: World, folder: Path) -> Observed:
    """As ``align run`` sees it."""
    state = State(folder)
    for stage in UNTIL_GATE:
        attempt = state.attempt("notes", stage, 1)
        attempt.path.mkdir(parents=True)
        attempt.request.write_text(json.dumps(world.requests[attempt.name].to_wire()), encoding="utf-8")
        attempt.termination.write_text(message(world, stage), encoding="utf-8")
        attempt.exit.write_text('{"exitCode": 0}', encoding="utf-8")
        for path, moment in ((attempt.request, STARTED), (attempt.exit, ENDED)):
            os.utime(path, (moment.timestamp(), moment.timestamp()))
    return observe_files(state, world.run)


def seen_in_objects(world: World) -> Observed:
    """As the operator sees it."""
    jobs, pods = [], []
    for stage in UNTIL_GATE:
        done = {"type": "Complete", "status": "True", "lastTransitionTime": ENDED.isoformat()}
        job = objects.job(1, stage=str(stage), uid=f"job-{stage}", status={"conditions": [done]})
        job["metadata"]["labels"][LABEL_RUN_UID] = world.run.metadata.uid
        job["metadata"]["ownerReferences"][0]["uid"] = world.run.metadata.uid
        ended = {
            "exitCode": 0,
            "startedAt": STARTED.isoformat(),
            "finishedAt": ENDED.isoformat(),
            "message": message(world, stage),
        }
        status = {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "stage", "state": {"terminated": ended}}],
        }
        jobs.append(job_record(job))
        pods.append(pod_record(objects.pod(1, name=f"pod-{stage}", job_uid=f"job-{stage}", status=status)))
    view = observe_objects(world.run, tuple(jobs), tuple(pods))
    assert view.unsettled == ()
    return view.observed


def told(status: AlignmentRunStatus) -> dict[str, Any]:
    """What a person reads of the decision."""
    summary, gate = (status.condition(c) for c in (ConditionType.SUCCEEDED, ConditionType.GATE_PASSED))
    assert summary is not None
    assert gate is not None
    assert status.verdict is not None
    return {
        "verdict": status.verdict.to_wire(),
        "gate": (gate.status, gate.reason, gate.message),
        "ends": (summary.status, summary.reason, summary.message),
        "headline": status.headline,
        "metrics": [metric.to_wire() for metric in status.metrics],
    }


def decided(observed: Observed) -> tuple[dict[str, Any], AlignmentRun]:
    planned = plan(observed, at(1000))
    actions = [(action.name, type(action).__name__) for action in planned.actions]
    return told(planned.status) | {"actions": actions}, observed.run


@pytest.mark.parametrize("gate", [{}, {"onInconclusive": "Hold"}, {"approval": "Manual"}], ids=str)
@pytest.mark.parametrize("found", CASES.values(), ids=CASES)
def test_both_executors_decide_alike(found: Evidence, gate: dict[str, Any], tmp_path: Path) -> None:
    world = World(run(gate=gate))
    world.through(*UNTIL_GATE[:2])
    world.begin("notes-evaluate-1")
    world.look()
    world.succeed("notes-evaluate-1", evidence=found)
    embedded, _ = decided(seen_in_files(world, tmp_path))
    operator, seen = decided(seen_in_objects(world))
    assert embedded == operator
    assert operator["verdict"]["result"] == str(decide(seen.spec.gate.criteria, found).result)


def test_the_cases_reach_every_verdict_and_every_form_of_message() -> None:
    results = {str(decide((), found).result) for found in CASES.values()}
    assert results == {"Passed", "Failed", "Inconclusive"}
    packed = result(StageName.EVALUATE, evidence=CASES["more than a message holds"]).to_termination_message()
    assert not packed.startswith("{"), "compressed"
