"""The dashboard *Operator*, for the person on call: does it keep up, who refuses, what does it cost?"""

from __future__ import annotations

from typing import Any

from tools.dashboards.panels import Panel, Query, dashboard, number

__all__ = ["build"]

_OURS = "and on (instance, job) alignment_operator_build_info"
"""Series of every process have these names; ours are those beside the build's."""
_NONE = "0 * max(alignment_operator_build_info)"
"""Nothing of the kind has happened; without an operator that is scraped it is no value either: nobody knows."""


def _now() -> tuple[Panel, ...]:
    return (
        number(
            "Replicas at work",
            "Replicas that act. Exactly one is right; the others stand by.",
            "none",
            Query("sum(alignment_operator_leader)", "leaders"),
            height=5,
            thresholds=((None, "red"), (1, "green"), (2, "red")),
        ),
        number(
            "Version",
            "What is running.",
            "none",
            Query("max by (version) (alignment_operator_build_info)", "{{version}}"),
            height=5,
            name=True,
        ),
        number(
            "Runs",
            "Runs that exist, finished ones included.",
            "short",
            Query("sum(max by (namespace, status, reason) (alignment_runs))", "runs"),
            height=5,
        ),
        number(
            "Last complete listing",
            "How long ago everything was listed once more, which repairs what watches missed.",
            "s",
            Query("time() - max(alignment_operator_last_resync_timestamp_seconds)", "age"),
            height=5,
            thresholds=((None, "green"), (1800, "yellow"), (3600, "red")),
        ),
        number(
            "Restarts in a day",
            "How often the operator's process was started anew during the last day.",
            "none",
            Query(f"sum(changes(process_start_time_seconds[1d]) {_OURS})", "restarts"),
            height=5,
            thresholds=((None, "green"), (1, "yellow"), (4, "red")),
        ),
        number(
            "Failing reconciliations",
            "Share of the reconciliations of ten minutes that failed.",
            "percentunit",
            Query(
                'sum(rate(alignment_operator_reconcile_total{result!="done"}[10m])) '
                f"/ (sum(rate(alignment_operator_reconcile_total[10m])) > 0) or {_NONE}",
                "share",
            ),
            height=5,
            thresholds=((None, "green"), (0.01, "yellow"), (0.05, "red")),
        ),
    )


def _keeping_up() -> tuple[Panel, ...]:
    return (
        Panel(
            "timeseries",
            "Queue",
            "Runs that wait for a worker. A burst is normal; a level that stays is not.",
            "short",
            (Query("max(alignment_operator_workqueue_depth)", "waiting"),),
            width=8,
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Oldest in the queue",
            "How long the oldest of them has waited.",
            "s",
            (Query("max(alignment_operator_workqueue_oldest_seconds)", "oldest"),),
            width=8,
            minimum=0,
            thresholds=((None, "green"), (60, "red")),
        ),
        Panel(
            "timeseries",
            "Watch lag",
            "Age of the oldest change that is known to have happened and that the watch has not brought. Should be 0.",
            "s",
            (Query("max by (resource) (alignment_operator_watch_lag_seconds)", "{{resource}}"),),
            width=8,
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Reconciliations",
            "Reconciliations per second by result; error: the API server refused or was silent; defect: a bug of ours.",
            "ops",
            (
                Query(
                    "sum by (result) (rate(alignment_operator_reconcile_total[$__rate_interval]))",
                    "{{result}}",
                ),
            ),
            overrides=(("^(error|defect)$", {"color": {"mode": "fixed", "fixedColor": "red"}}),),
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Reconcile latency",
            "Duration of a reconciliation, API requests included: the middle one, and the slowest of a hundred.",
            "s",
            (
                Query(
                    "histogram_quantile(0.5, sum by (le) "
                    "(rate(alignment_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "p50",
                ),
                Query(
                    "histogram_quantile(0.99, sum by (le) "
                    "(rate(alignment_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "p99",
                ),
            ),
            minimum=0,
        ),
    )


def _talking() -> tuple[Panel, ...]:
    return (
        Panel(
            "timeseries",
            "API requests",
            "Requests to the API server per second, by what was asked for.",
            "reqps",
            (
                Query(
                    "sum by (verb, resource) (rate(alignment_operator_api_requests_total[$__rate_interval]))",
                    "{{verb}} {{resource}}",
                ),
            ),
            width=8,
            custom={"stacking": {"mode": "normal"}, "fillOpacity": 30},
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Refusals",
            "Requests per second that were refused or not answered (code 0). Conflicts (409) are normal, in small numbers.",
            "reqps",
            (
                Query(
                    'sum by (code) (rate(alignment_operator_api_requests_total{code!~"2.."}[$__rate_interval])) '
                    f'or on () label_replace({_NONE}, "code", "none", "", "")',
                    "{{code}}",
                ),
            ),
            width=8,
            minimum=0,
        ),
        Panel(
            "timeseries",
            "API latency",
            "Duration of a request to the API server: the slowest of a hundred. Waiting for our own rate limit left out.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (verb, le) "
                    "(rate(alignment_operator_api_request_duration_seconds_bucket[$__rate_interval])))",
                    "{{verb}}",
                ),
            ),
            width=8,
            minimum=0,
        ),
    )


def _costing() -> tuple[Panel, ...]:
    return (
        Panel(
            "timeseries",
            "Memory",
            "Resident memory of each replica.",
            "bytes",
            (Query(f"process_resident_memory_bytes {_OURS}", "{{instance}}"),),
            width=8,
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Processor",
            "Processor time of each replica: 1 is one core.",
            "none",
            (Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {_OURS}", "{{instance}}"),),
            width=8,
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Scrape",
            "How long Prometheus waits for /metrics.",
            "s",
            (Query(f"scrape_duration_seconds {_OURS}", "{{instance}}"),),
            width=8,
            minimum=0,
        ),
    )


def build() -> dict[str, Any]:
    """The dashboard as Grafana's JSON."""
    return dashboard(
        "alignment-operator",
        "Alignment operator",
        "Does the operator keep up, who refuses, what does it cost?",
        (
            ("Now", _now()),
            ("Keeping up", _keeping_up()),
            ("Talking to the API server", _talking()),
            ("Costs", _costing()),
        ),
        since="now-6h",
    )
