"""How a run looks on a terminal: the story of one run, the table of many. Pure: from a run to a renderable."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alignment_api.conditions import ConditionStatus, ConditionType, Reason
from alignment_api.names import STAGES
from alignment_api.run import AlignmentRun
from alignment_api.spec.gate import CriterionMode
from alignment_api.status import Condition, Funnel, StageStatus
from alignment_api.verdict import CriterionVerdict, Result, Verdict
from alignment_cli.durations import duration

__all__ = ["run_story", "runs_table"]

_STYLES = {ConditionStatus.TRUE: "green", ConditionStatus.FALSE: "red", ConditionStatus.UNKNOWN: "yellow"}
_RESULT_STYLES = {Result.PASSED: "green", Result.FAILED: "red", Result.INCONCLUSIVE: "yellow"}
_SHOWN_DIGEST = len("sha256:") + 12
_STAGE_CONDITIONS = dict(
    zip(
        STAGES,
        (ConditionType.DATA_READY, ConditionType.TRAINED, ConditionType.EVALUATED, ConditionType.PUBLISHED),
        strict=True,
    )
)


def runs_table(
    runs: list[AlignmentRun], now: datetime | None = None, *, namespaces: bool = False
) -> RenderableType:
    """One line a run. namespaces: with the namespace of each."""
    table = Table(box=None, pad_edge=False)
    for column in (
        *(["NAMESPACE"] if namespaces else []),
        "NAME",
        "STAGE",
        "VERDICT",
        "HEADLINE",
        "PAIRS",
        "AGE",
    ):
        table.add_column(column)
    for run in runs:
        summary = run.status.condition(ConditionType.SUCCEEDED)
        verdict = run.status.verdict
        created = run.metadata.creation_timestamp
        age = ((now or datetime.now(UTC)) - created).total_seconds() if created else None
        table.add_row(
            *([run.metadata.namespace] if namespaces else []),
            run.metadata.name,
            Text(summary.reason, style=_STYLES[summary.status]) if summary else "",
            Text(verdict.result, style=_RESULT_STYLES[verdict.result]) if verdict else "",
            run.status.headline or "",
            str(run.status.data.pairs) if run.status.data else "",
            duration(age),
        )
    return table


def run_story(run: AlignmentRun, now: datetime | None = None) -> RenderableType:
    """Everything about a run on one screen: where it stands, stages, data, verdict, what was published."""
    now = now or datetime.now(UTC)
    summary = run.status.condition(ConditionType.SUCCEEDED)
    parts: list[RenderableType] = [_headline(run, summary), _origin(run), _stages(run, now)]
    if run.status.data is not None:
        parts.append(funnel(run.status.data))
    if run.status.verdict is not None:
        parts.append(verdict_table(run.status.verdict))
    decision = run.spec.gate.decision
    if decision is not None:
        ignored = run.status.verdict is not None and run.status.verdict.decision_ignored
        parts.append(
            Text(
                f"Word:   {decision.result} by {decision.by}: {decision.reason}"
                + (" (set before the evidence, so it does not count)" if ignored else "")
            )
        )
    failure = run.status.last_failure
    if failure is not None and (summary is None or summary.reason is not Reason.PUBLISHED):
        parts.append(
            Text(f"Last failure ({failure.stage}, {failure.reason}): {failure.message}", style="red")
        )
    if run.status.published is not None:
        alias = f"\nAlias:  {run.status.published.alias}" if run.status.published.alias else ""
        parts.append(Text(f"Model:  {run.status.published.uri}{alias}", overflow="fold"))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _headline(run: AlignmentRun, summary: Condition | None) -> RenderableType:
    reason = f"[{_STYLES[summary.status]}]{summary.reason}[/]" if summary else "not looked at yet"
    lines = [f"[bold]{escape(run.metadata.name)}[/]  {reason}"]
    if run.status.headline:
        lines[0] += f"  {escape(run.status.headline)}"
    if summary is not None and summary.message:
        lines.append(escape(summary.message))
    return Text.from_markup("\n".join(lines))


def _origin(run: AlignmentRun) -> RenderableType:
    """What is aligned, and what it has to beat, as pinned once prepare has done so."""
    pins = run.status.pins
    if pins is None:
        return Text(f"From:    {run.spec.model.uri}", overflow="fold")
    champion = "the model itself; there was no champion" if pins.champion_is_model else pins.champion.uri
    return Text(
        f"From:    {pins.model.uri}  {pins.model.digest[:_SHOWN_DIGEST]}\nTo beat: {champion}",
        overflow="fold",
    )


def _stages(run: AlignmentRun, now: datetime) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for column in ("STAGE", "STATE", "TIME", "TRIES", ""):
        table.add_column(column)
    progress = run.status.progress
    for name in STAGES:
        stage = run.status.stage(name)
        condition = run.status.condition(_STAGE_CONDITIONS[name])
        state = Text(_state(stage, condition), style=_STYLES[condition.status] if condition else "dim")
        extra: RenderableType = Text(
            condition.message if condition and stage.attempt else "", overflow="ellipsis", no_wrap=True
        )
        if progress is not None and progress.stage is name and stage.end_time is None:
            extra = _bar(progress.percent, progress.eta_seconds, progress.activity)
        tries = str(stage.attempt) if stage.attempt else ""
        if stage.preemptions:
            tries += f" ({stage.preemptions} preempted)"
        table.add_row(name, state, duration(_seconds(stage, now)), tries, extra)
    return table


def _state(stage: StageStatus, condition: Condition | None) -> str:
    if condition is None or (stage.attempt == 0 and condition.reason is Reason.PENDING):
        return "–"
    return str(condition.reason)


def _seconds(stage: StageStatus, now: datetime) -> float | None:
    if stage.start_time is None:
        return None
    running = (
        (now - stage.attempt_start_time).total_seconds()
        if stage.attempt_start_time and not stage.end_time
        else 0.0
    )
    return stage.running_seconds + running


def _bar(percent: int, eta: int | None, activity: str) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        ProgressBar(100, percent, width=24), f"{percent} %", f"{duration(eta)} left" if eta else "", activity
    )
    return grid


def funnel(data: Funnel) -> RenderableType:
    """How rows became pairs."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_row(
        "Data:", f"{data.rows} rows → {data.pairs} pairs: {data.train} to train on, {data.holdout} held out"
    )
    lost = {
        "invalid": data.invalid,
        "excluded": data.excluded,
        "duplicates": data.duplicates,
        "contradictions": data.contradictions,
        "unpaired": data.unpaired,
        **data.dropped,
    }
    if any(lost.values()):
        reasons = ", ".join(f"{count} {name}" for name, count in lost.items() if count)
        grid.add_row("", Text(f"left out: {reasons}", "dim"))
    for warning in data.warnings:
        grid.add_row("", Text(f"note: {warning}", "yellow"))
    return grid


def verdict_table(verdict: Verdict) -> RenderableType:
    """The verdict, criterion by criterion."""
    table = Table(
        box=None,
        pad_edge=False,
        title=Text(f"Verdict: {verdict.result}", style=_RESULT_STYLES[verdict.result]),
        title_justify="left",
    )
    for column, justify in (
        ("CRITERION", "left"),
        ("METRIC", "left"),
        ("RESULT", "left"),
        ("ESTIMATE", "right"),
        ("BOUND", "right"),
        ("P", "right"),
        ("", "left"),
    ):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for criterion in verdict.criteria:
        table.add_row(
            criterion.name,
            f"{criterion.metric}({criterion.selector})" if criterion.selector else str(criterion.metric),
            Text(criterion.result, style=_RESULT_STYLES[criterion.result]),
            _number(criterion.estimate),
            _number(criterion.bound),
            _number(criterion.p_value),
            _remark(criterion),
        )
    return table


def _remark(criterion: CriterionVerdict) -> str:
    remarks = ["shown, not counted"] if criterion.mode is CriterionMode.DRY_RUN else []
    if criterion.result is Result.INCONCLUSIVE and criterion.needed_pairs:
        remarks.append(f"about {criterion.needed_pairs} held-out pairs needed")
    if criterion.message:
        remarks.append(criterion.message)
    return "; ".join(remarks)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
