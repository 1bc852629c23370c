"""A world of one run for plan tests: time passes, attempts live and die, statuses are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alignment_api.conditions import ConditionType, Reason
from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import StageFailure, StageRequest
from alignment_api.status import ProgressStatus
from alignment_operator.core.actions import Plan, StartStage, StopStage
from alignment_operator.core.observed import Attempt, AttemptState, Leftover, Observed
from alignment_operator.core.plan import plan
from support.runs import at, result

APPROVE = {"result": "Approve", "by": "ml-lead", "reason": "read the report"}
REJECT = {"result": "Reject", "by": "ml-lead", "reason": "too terse"}


class World:
    """Runs the plan against simulated attempts."""

    def __init__(self, run: AlignmentRun) -> None:
        self.run = run
        self.seconds = 0.0
        self.attempts: dict[str, Attempt] = {}
        self.requests: dict[str, StageRequest] = {}
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.refusal = ""
        self.foreign: frozenset[str] = frozenset()
        self.leftovers: tuple[Leftover, ...] = ()
        self.progress: ProgressStatus | None = None

    def look(self, *, write_status: bool = True) -> Plan:
        """One reconcile. write_status: False plays a crash between acting and writing."""
        seen = Observed(
            self.run,
            tuple(self.attempts.values()),
            self.foreign,
            self.refusal,
            progress=self.progress,
            leftovers=self.leftovers,
        )
        planned = plan(seen, at(self.seconds))
        for action in planned.actions:
            if isinstance(action, StopStage):
                self.stopped.append(action.name)
                if action.abandon:
                    del self.attempts[action.name]
            elif isinstance(action, StartStage) and not self.refusal and action.name not in self.attempts:
                self.started.append(action.name)
                self.requests[action.name] = action.request
                self.attempts[action.name] = Attempt(
                    action.stage, action.attempt, action.name, AttemptState.PENDING
                )
        if write_status:
            self.run = self.run.model_copy(update={"status": planned.status})
        return planned

    def change(self, name: str, **fields: Any) -> None:
        self.attempts[name] = replace(self.attempts[name], **fields)

    def begin(self, name: str) -> None:
        self.change(name, state=AttemptState.RUNNING, started=at(self.seconds))

    def succeed(self, name: str, **fields: Any) -> None:
        attempt = self.attempts[name]
        answer = result(attempt.stage, self.requests[name], seconds=self.seconds, **fields)
        self.change(name, state=AttemptState.SUCCEEDED, ended=at(self.seconds), result=answer, exit_code=0)

    def fail(
        self, name: str, code: int | None, reason: str | None = None, *, disrupted: bool = False
    ) -> None:
        failure = StageFailure(reason=reason, message="because") if reason else None
        self.change(
            name,
            state=AttemptState.FAILED,
            ended=at(self.seconds),
            exit_code=code,
            failure=failure,
            disrupted=disrupted,
        )

    def through(self, *stages: StageName, **evaluation: Any) -> None:
        """Let each of these stages start, run for 60 s and succeed."""
        for stage in stages:
            self.look()
            name = self.started[-1]
            assert self.attempts[name].stage is stage
            self.begin(name)
            self.seconds += 60
            self.succeed(name, **(evaluation if stage is StageName.EVALUATE else {}))
        self.look()

    @property
    def reason(self) -> Reason:
        summary = self.run.status.condition(ConditionType.SUCCEEDED)
        assert summary is not None
        return summary.reason

    @property
    def message(self) -> str:
        summary = self.run.status.condition(ConditionType.SUCCEEDED)
        assert summary is not None
        return summary.message


def with_gate(world: World, **gate: Any) -> None:
    wire = world.run.to_wire()
    wire["spec"]["gate"].update(gate)
    wire["metadata"]["generation"] = world.run.metadata.generation + 1
    world.run = AlignmentRun.model_validate(wire)


def with_spec(world: World, **spec: Any) -> None:
    wire = world.run.to_wire()
    wire["spec"].update(spec)
    world.run = AlignmentRun.model_validate(wire)
