"""Every metric that the operator exports, in one table: name, kind, labels, meaning.

The documentation page and the dashboards are made from it; a test compares it with what a scrape gives.
Labels are names and bounded enums only: never a UID, a pod, a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["MAXIMUM_PER_RUN", "SERIES", "Series"]

MAXIMUM_PER_RUN: Final = 10
"""Series that one run has at most."""
_RUN: Final = ("namespace", "name")
_TARGET: Final = ("namespace", "target")


@dataclass(frozen=True, slots=True)
class Series:
    """One metric. per_run: it has a series for each run, and is left out when per-run metrics are switched off."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "gaugehistogram"]
    labels: tuple[str, ...]
    sentence: str
    per_run: bool = False


SERIES: Final = (
    # -- one run ------------------------------------------------------------------------------------
    Series("alignment_run_info", "gauge", (*_RUN, "method", "model", "target"),
           "Always 1: the run's method, its model's URI and the alias it publishes to.", per_run=True),
    Series("alignment_run_condition_timestamp_seconds", "gauge", (*_RUN, "type", "status", "reason"),
           "Status and reason of the condition Succeeded, which sums the run up; the value is when it came to this"
           " status, in seconds since 1970.", per_run=True),
    Series("alignment_run_progress_ratio", "gauge", (*_RUN, "stage"),
           "Share of the running stage that is done; only while a stage tells it.", per_run=True),
    Series("alignment_run_preference_accuracy_ratio", "gauge", _RUN,
           "Preference accuracy on the holdout, candidate against champion.", per_run=True),
    Series("alignment_run_preference_accuracy_confidence_low_ratio", "gauge", _RUN,
           "Lower end of its 95 % interval.", per_run=True),
    Series("alignment_run_preference_accuracy_confidence_high_ratio", "gauge", _RUN,
           "Upper end of its 95 % interval.", per_run=True),
    Series("alignment_run_win_rate_ratio", "gauge", _RUN,
           "Share of generations that the judge prefers to the champion's; only with a judge.", per_run=True),
    Series("alignment_run_win_rate_confidence_low_ratio", "gauge", _RUN,
           "Lower end of its 95 % interval.", per_run=True),
    Series("alignment_run_win_rate_confidence_high_ratio", "gauge", _RUN,
           "Upper end of its 95 % interval.", per_run=True),
    Series("alignment_run_gate_estimate", "gauge", (*_RUN, "metric"),
           "Estimate of the verdict's first blocking criterion, in the metric's own unit; not while a stage tells its"
           " progress.", per_run=True),
    Series("alignment_run_gate_threshold", "gauge", (*_RUN, "metric"),
           "Its limit; not while a stage tells its progress.", per_run=True),
    # -- all runs -----------------------------------------------------------------------------------
    Series("alignment_runs", "gauge", ("namespace", "status", "reason"),
           "Number of runs by status and reason of the condition Succeeded."),
    Series("alignment_stage_duration_seconds", "gaugehistogram", ("stage",),
           "Running time of the finished stages of all runs that exist."),
    Series("alignment_publish_last_success_timestamp_seconds", "gauge", ("namespace", "target"),
           "When a run last published to this alias, in seconds since 1970; only runs that exist count."),
    # -- one alias that runs publish to: bounded by the number of products, not of runs ---------------
    Series("alignment_target_metric", "gauge", (*_TARGET, "run", "metric", "bound"),
           "A metric of the newest evaluated run, or of the last published one: estimate, low and high end of its"
           " 95 % interval, in the metric's own unit."),
    Series("alignment_target_gate_threshold", "gauge", (*_TARGET, "metric"),
           "Limits of the newest verdict's blocking criteria; metrics that stand for several sets are left out."),
    Series("alignment_target_rows", "gauge", (*_TARGET, "fate"),
           "Rows of the newest run with data, by what became of them."),
    Series("alignment_target_failed_verdicts", "gauge", _TARGET,
           "How many verdicts in a row, counted from the newest, were Failed."),
    Series("alignment_target_cadence_seconds", "gauge", _TARGET,
           "Planned time between two decisions: a year over gate.errorBudget.decisionsPerYear of the newest run."),
    Series("alignment_target_first_run_timestamp_seconds", "gauge", _TARGET,
           "When the oldest run that exists was made, in seconds since 1970."),
    Series("alignment_target_newest_info", "gauge", (*_TARGET, "name", "reason"),
           "Always 1: the newest finished run and how it ended."),
    Series("alignment_target_champion_info", "gauge", (*_TARGET, "name"),
           "Always 1: the run that published last."),
    # -- the operator -------------------------------------------------------------------------------
    Series("alignment_operator_build_info", "gauge", ("version",), "Always 1."),
    Series("alignment_operator_leader", "gauge", (), "1 on the replica that acts, else 0."),
    Series("alignment_operator_reconcile_total", "counter", ("result",),
           "Reconciliations: done, error (the API server refused or was silent), defect (a bug of ours)."),
    Series("alignment_operator_reconcile_duration_seconds", "histogram", (),
           "Duration of a reconciliation, API requests included."),
    Series("alignment_operator_workqueue_depth", "gauge", (), "Runs that wait for a worker."),
    Series("alignment_operator_workqueue_oldest_seconds", "gauge", (),
           "How long the oldest of them has waited."),
    Series("alignment_operator_api_requests_total", "counter", ("verb", "resource", "code"),
           "Requests to the API server; code 0: no answer."),
    Series("alignment_operator_api_request_duration_seconds", "histogram", ("verb",),
           "Duration of a request to the API server, waiting for the own rate limit left out."),
    Series("alignment_operator_watch_lag_seconds", "gauge", ("resource",),
           "Age of the oldest change that is known to have happened and that the watch has not brought; 0: none."),
    Series("alignment_operator_last_resync_timestamp_seconds", "gauge", (),
           "When all objects were last listed completely, in seconds since 1970."),
    Series("alignment_operator_unlisted_namespaces", "gauge", (),
           "Watched namespaces that cannot be listed, deleted or without the rights; their runs are not brought forward."),
)  # fmt: skip
