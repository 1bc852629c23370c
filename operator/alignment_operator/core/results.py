"""What a stage's result adds to the status of its run."""

from __future__ import annotations

from datetime import datetime

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.gate import decide
from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import StageResult
from alignment_operator.core.draft import STAGE_CONDITION, Draft

__all__ = ["record_result"]


def record_result(draft: Draft, run: AlignmentRun, result: StageResult, *, now: datetime) -> bool:
    """Write a stage's result into the draft. Returns True when the next stage may follow."""
    stage = result.stage
    draft.set_stage(
        stage,
        end_time=result.finished_time,
        retry_time=None,
        result_digest=result.digest,
        artifact_uri=result.output.uri,
        artifact_digest=result.output.digest,
    )
    draft.condition(STAGE_CONDITION[stage], ConditionStatus.TRUE, _done_reason(result), _done_message(result))
    if stage is StageName.PREPARE:
        draft.set(pins=result.pins, data=result.data)
    elif stage is StageName.EVALUATE:
        _record_evaluation(draft, run, result, now)
    elif stage is StageName.PUBLISH:
        _record_publication(draft, result)
        return False
    return True


def _record_evaluation(draft: Draft, run: AlignmentRun, result: StageResult, now: datetime) -> None:
    assert result.evidence is not None  # noqa: S101  classify: else it is no answer
    verdict = decide(run.spec.gate.criteria, result.evidence).model_copy(
        # A decision that stood there before there was anything to decide on is not one.
        update={"decided_time": now, "decision_ignored": run.spec.gate.decision is not None}
    )
    draft.set(metrics=result.metrics, headline=result.headline, verdict=verdict)


def _record_publication(draft: Draft, result: StageResult) -> None:
    published = result.published
    assert published is not None  # noqa: S101  classify: else it is no answer
    draft.set(published=published)
    if result.champion_moved:
        message = (
            f"{published.version} is published at {published.uri}, but the alias was moved by someone else while this "
            "run worked and was left alone. Compare with the new champion in a new run."
        )
        draft.condition(ConditionType.PUBLISHED, ConditionStatus.FALSE, Reason.CHAMPION_MOVED, message)
        draft.end(Reason.CHAMPION_MOVED, message)
        return
    message = f"{published.version} is published at {published.uri}; {published.alias} points to it."
    draft.condition(ConditionType.PUBLISHED, ConditionStatus.TRUE, Reason.PUBLISHED, message)
    draft.end(Reason.PUBLISHED, message)


def _done_reason(result: StageResult) -> Reason:
    """Done; of data whose cohorts contradict each other, that: it is the one warning that no later stage repeats."""
    agreement = result.data.cohort_agreement if result.data is not None else None
    return Reason.COHORTS_CONTRADICT if agreement is not None and agreement.high < 0.5 else Reason.DONE


def _done_message(result: StageResult) -> str:
    if result.data is not None:
        funnel = result.data
        notes = "".join(f" Note: {warning}." for warning in funnel.warnings)
        sides = f"{funnel.train} to train on, {funnel.holdout} held out"
        return f"{funnel.pairs} pairs from {funnel.rows} rows: {sides}.{notes}"
    if result.training is not None:
        loss = (
            f", final loss {result.training.final_loss:.4g}" if result.training.final_loss is not None else ""
        )
        return f"{result.training.steps} steps on {result.training.pairs} pairs{loss}."
    return result.headline or "Done."
