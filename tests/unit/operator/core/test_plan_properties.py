"""Whatever happens to attempts, in whatever order, and wherever the executor crashes: what must always hold."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alignment_api.conditions import ConditionType, Reason
from alignment_api.evidence import Evidence
from alignment_api.names import STAGES, StageName
from alignment_api.verdict import Result
from alignment_operator.core.actions import StartStage
from alignment_operator.core.observed import AttemptState, Leftover
from support.runs import FAILED, INCONCLUSIVE, PASSED, at, run

from .world import APPROVE, REJECT, World, with_gate, with_spec

LOOKS_TO_SETTLE = 3
"""An attempt whose node is gone is recorded, taken away, and followed by the next."""
EVIDENCE: dict[str, Evidence] = {"passed": PASSED, "failed": FAILED, "inconclusive": INCONCLUSIVE}


class AnyLife(RuleBasedStateMachine):
    """A run in a hostile world."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(run())
        self.limit = 0
        self.finished_with: Reason | None = None

    @initialize(
        limit=st.integers(0, 3),
        approval=st.sampled_from(["Automatic", "Manual"]),
        inconclusive=st.sampled_from(["Reject", "Hold"]),
        deadline=st.sampled_from([200, 100_000]),
    )
    def begin(self, limit: int, approval: str, inconclusive: str, deadline: int) -> None:
        self.limit = limit
        gate = {"approval": approval, "onInconclusive": inconclusive}
        self.world = World(run(backoffLimit=limit, activeDeadlineSeconds=deadline, gate=gate))

    @property
    def active(self) -> list[str]:
        return [name for name, attempt in self.world.attempts.items() if attempt.active]

    @rule(write=st.booleans())
    def look(self, write: bool) -> None:
        there = set(self.world.attempts)
        planned = self.world.look(write_status=write)
        started = [a.name for a in planned.actions if isinstance(a, StartStage)]
        assert not there & set(started), "what exists is never started again"
        assert len(started) <= 1
        if write:
            for _ in range(LOOKS_TO_SETTLE):
                self.world.look()
            settled = self.world.run.status
            again = self.world.look()
            assert again.status == settled, "with nothing new there is nothing to write"
            assert not any(isinstance(a, StartStage) for a in again.actions)

    @rule(seconds=st.integers(1, 400))
    def time_passes(self, seconds: int) -> None:
        self.world.seconds += seconds

    @precondition(lambda self: self.active)
    @rule()
    def starts_to_run(self) -> None:
        if self.world.attempts[self.active[-1]].state is AttemptState.PENDING:
            self.world.begin(self.active[-1])

    @precondition(lambda self: self.active)
    @rule(outcome=st.sampled_from(sorted(EVIDENCE)), moved=st.booleans())
    def succeeds(self, outcome: str, moved: bool) -> None:
        name = self.active[-1]
        stage = self.world.attempts[name].stage
        extra: dict[str, Any] = {}
        if stage is StageName.EVALUATE:
            extra = {"evidence": EVIDENCE[outcome]}
        if stage is StageName.PUBLISH:
            extra = {"champion_moved": moved}
        self.world.succeed(name, **extra)

    @precondition(lambda self: self.active)
    @rule(code=st.sampled_from([1, 64, 65, 75, 137, 143, None]), disrupted=st.booleans())
    def fails(self, code: int | None, disrupted: bool) -> None:
        self.world.fail(self.active[-1], code, disrupted=disrupted)

    @precondition(lambda self: self.active)
    @rule()
    def is_told_to_stop(self) -> None:
        self.world.change(self.active[-1], state=AttemptState.STOPPING)

    @precondition(lambda self: self.active)
    @rule(late=st.integers(-400, 400))
    def is_on_a_node_that_goes(self, late: int) -> None:
        attempt = self.world.attempts[self.active[-1]]
        pod = Leftover("pod", attempt.stage, at(self.world.seconds - late), "node1")
        self.world.change(attempt.name, stopping=pod)

    @precondition(lambda self: self.active)
    @rule()
    def is_deleted(self) -> None:
        del self.world.attempts[self.active[-1]]

    @precondition(lambda self: self.active)
    @rule()
    def loses_its_result(self) -> None:
        self.world.change(self.active[-1], state=AttemptState.SUCCEEDED, exit_code=0)

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        with_spec(self.world, suspend=suspend)

    @precondition(lambda self: self.world.run.spec.gate.decision is None)
    @rule(decision=st.sampled_from([APPROVE, REJECT]))
    def person_decides(self, decision: dict[str, str]) -> None:
        summary = self.world.run.status.condition(ConditionType.SUCCEEDED)
        if summary is not None and summary.reason is Reason.AWAITING_DECISION:
            with_gate(self.world, decision=decision)

    @invariant()
    def at_most_one_attempt_is_active(self) -> None:
        assert len(self.active) <= 1

    @invariant()
    def failures_stay_within_the_limit(self) -> None:
        for stage in STAGES:
            assert self.world.run.status.stage(stage).failures <= self.limit + 1

    @invariant()
    def nothing_is_published_against_the_verdict(self) -> None:
        if not any(name.startswith("notes-publish") for name in self.world.started):
            return
        request = next(r for r in self.world.requests.values() if r.stage is StageName.PUBLISH)
        assert request.verdict is not None
        assert request.verdict.result is not Result.FAILED
        if request.verdict.result is Result.INCONCLUSIVE or self.world.run.spec.gate.approval == "Manual":
            assert request.decision is not None
            assert request.decision.result == "Approve"

    @invariant()
    def the_end_is_final(self) -> None:
        summary = self.world.run.status.condition(ConditionType.SUCCEEDED)
        if self.finished_with is not None:
            assert summary is not None
            assert summary.reason is self.finished_with
        elif self.world.run.finished and summary is not None:
            self.finished_with = summary.reason


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
