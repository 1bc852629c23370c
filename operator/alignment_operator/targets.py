"""What dashboards and alerts read of an alias: its newest runs and its champion. Pure: from runs to rows of series.

Series per run cannot be laid side by side once there are hundreds. What a product's people ask (are we getting better,
was the last one refused, what became of the rows) is about the newest run of one alias, so that is what is told, and
Prometheus keeps the history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from alignment_api.conditions import Reason
from alignment_operator.records import RunRecord
from alignment_operator.summary import FATES, RunSummary

__all__ = ["target_rows"]

Row = tuple[tuple[str, ...], float]
_JUDGED = frozenset(
    {Reason.PUBLISHED, Reason.GATE_FAILED, Reason.GATE_INCONCLUSIVE, Reason.REJECTED, Reason.CHAMPION_MOVED}
)
"""Ends of a run that had a verdict."""


def target_rows(runs: Iterable[RunRecord]) -> dict[str, list[Row]]:
    """Label values and value of every series per target, by the series' name."""
    by_target: defaultdict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_target[run.key.namespace, run.summary.target].append(run)
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for target, members in sorted(by_target.items()):
        newest_first = sorted(members, key=lambda run: (run.summary.since, run.key), reverse=True)
        for name, labels, value in _target(newest_first):
            rows[f"alignment_target_{name}"].append(((*target, *labels), value))
    return dict(rows)


def _target(newest_first: Sequence[RunRecord]) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Rows of one target: the series' name without its prefix, labels beyond the target's, value."""
    summaries = [run.summary for run in newest_first]
    yield "cadence_seconds", (), summaries[0].cadence
    yield "first_run_timestamp_seconds", (), min(summary.created for summary in summaries)
    yield "failed_verdicts", (), float(_failed_in_a_row(summaries))
    evaluated = next((summary for summary in summaries if summary.metrics), None)
    if evaluated is not None:
        yield from _metrics("newest", evaluated)
    judged = next((summary for summary in summaries if summary.criterion), None)
    if judged is not None:
        for metric, limit in judged.limits.items():
            yield "gate_threshold", (metric,), limit
    counted = next((summary.rows for summary in summaries if summary.rows), ())
    for fate, count in zip(FATES, counted, strict=False):  # nothing is counted before prepare has ended
        yield "rows", (fate,), float(count)
    finished = next((run for run in newest_first if run.finished), None)
    if finished is not None:
        yield "newest_info", (finished.key.name, finished.summary.reason), 1.0
    champion = next((run for run in newest_first if run.summary.reason == Reason.PUBLISHED), None)
    if champion is not None:
        yield "champion_info", (champion.key.name,), 1.0
        yield from _metrics("published", champion.summary)


def _metrics(which: str, summary: RunSummary) -> Iterator[tuple[str, tuple[str, ...], float]]:
    for name, found in summary.metrics.items():
        for bound, value in (("estimate", found.estimate), ("low", found.low), ("high", found.high)):
            if value is not None:
                yield "metric", (which, str(name), bound), value


def _failed_in_a_row(newest_first: Sequence[RunSummary]) -> int:
    count = 0
    for summary in newest_first:
        if summary.reason == Reason.GATE_FAILED:
            count += 1
        elif summary.reason in _JUDGED:
            break
    return count
