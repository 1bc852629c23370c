"""The page of metrics: series of the operator from its table, live values of a running stage from the stage's code."""

from __future__ import annotations

from typing import Final

from alignment_api.metrics import METRICS
from alignment_operator.series import MAXIMUM_PER_RUN, SERIES, Series
from alignment_trainer.runtime.live import STAGE_SERIES

__all__ = ["page"]

_INTRO: Final = f"""# Metrics

The operator serves `/metrics` on port 8080, a running stage on port 8081 of its pod. [Monitoring](monitoring.md) has the
dashboards and alerts made from them.

Every value of a run is derived from its resource when Prometheus asks. So values survive a restart of the operator, a
deleted run leaves nothing behind, and only the leading replica tells of runs. Labels are names and words from closed
lists; a run has at most {MAXIMUM_PER_RUN} series. `metrics.perRun: false` in the chart's values leaves the series per run
out; those per alias (`alignment_target_…`) stay.
"""


def page() -> str:
    """The whole page as Markdown."""
    per_run = [series for series in SERIES if series.per_run]
    parts = [_INTRO]
    parts += _section("Per run", per_run)
    parts += _section("Per alias", [s for s in SERIES if s.name.startswith("alignment_target_")])
    rest = [s for s in SERIES if s not in per_run and not s.name.startswith("alignment_target_")]
    parts += _section("All runs", [s for s in rest if not s.name.startswith("alignment_operator_")])
    parts += _section("The operator", [s for s in rest if s.name.startswith("alignment_operator_")])
    parts.append(
        "The operator's process also has the usual `process_…` series: memory, CPU time, open files.\n"
    )
    parts += ["## A running stage\n", "Gauges of the stage's own pod, gone with it.\n"]
    parts += ["| series | labels | what it is |", "|---|---|---|"]
    parts += [f"| `{name}` | `stage` | {sentence} |" for name, sentence in STAGE_SERIES.items()]
    parts += ["", "## Metrics of the evaluation\n"]
    parts.append(
        "Values of the label `metric`, with the unit that the series then has; of these, edit burden, win rate, preference\n"
        "accuracy and the worst cohort's accuracy are exported. [The gate](gate.md#metrics) defines each.\n"
    )
    parts += ["| metric | unit | better | what it is |", "|---|---|---|---|"]
    parts += [
        f"| `{name}` | {info.unit} | {info.better.lower()} | {info.sentence} |"
        for name, info in METRICS.items()
    ]
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, members: list[Series]) -> list[str]:
    lines = [f"## {title}\n", "| series | kind | labels | what it is |", "|---|---|---|---|"]
    for series in members:
        labels = ", ".join(f"`{label}`" for label in series.labels)
        lines.append(f"| `{series.name}` | {series.kind} | {labels} | {series.sentence} |")
    return [*lines, ""]
