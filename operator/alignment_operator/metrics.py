"""What ``/metrics`` says. Runs are read from the store at every scrape, so nothing is counted that must survive.

A restart forgets no run's metric and a deleted run leaves none behind. Only what has no other home, the operator's
own requests and reconciliations, is counted as it happens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from alignment_api.conditions import ConditionStatus
from alignment_api.metrics import MetricName
from alignment_api.names import STAGES
from alignment_operator.records import RunRecord
from alignment_operator.series import SERIES, Series
from alignment_operator.summary import Estimate, RunSummary
from alignment_operator.targets import target_rows

__all__ = ["Metrics", "OperatorState"]

_RUN = ("namespace", "name")
_BY_NAME = {series.name: series for series in SERIES}
_STAGE_BOUNDS = (10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0)
_REQUEST_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class OperatorState:
    """What a scrape tells, read at one moment on the loop: rendering goes on in a thread while the loop works.

    runs: empty where this replica does not lead, or two replicas would count them twice.
    values: the operator's own gauges by series name; with a label, by its value.
    """

    runs: tuple[RunRecord, ...]
    values: Mapping[str, float | Mapping[str, float]]


class Metrics:
    """Counts requests and reconciliations, and renders everything. per_run: whether to export series per run."""

    def __init__(self, *, per_run: bool, wrote: Callable[[str, str, str], None] = lambda *_: None) -> None:
        self._registry = CollectorRegistry()
        self._per_run = per_run
        self._wrote = wrote
        self._requests = Counter(
            *_described("alignment_operator_api_requests_total"), registry=self._registry
        )
        self._request_seconds = Histogram(
            *_described("alignment_operator_api_request_duration_seconds"),
            buckets=_REQUEST_BOUNDS,
            registry=self._registry,
        )
        self._reconciles = Counter(*_described("alignment_operator_reconcile_total"), registry=self._registry)
        self._reconcile_seconds = Histogram(
            *_described("alignment_operator_reconcile_duration_seconds"),
            buckets=_REQUEST_BOUNDS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    # -- counting -----------------------------------------------------------------------------------

    def request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """One call to the API server has ended."""
        self._requests.labels(verb, resource, str(code)).inc()
        self._request_seconds.labels(verb).observe(seconds)

    def wrote(self, resource: str, namespace: str, version: str) -> None:
        """One of our writes has this version now."""
        self._wrote(resource, namespace, version)

    def reconciled(self, result: str, seconds: float) -> None:
        """One reconciliation has ended."""
        self._reconciles.labels(result).inc()
        self._reconcile_seconds.observe(seconds)

    # -- rendering ----------------------------------------------------------------------------------

    def render(self, state: OperatorState) -> bytes:
        """The exposition text."""
        registry = CollectorRegistry()
        registry.register(_Collected(state))
        each = "".join(_each(state.runs)).encode() if self._per_run else b""
        return generate_latest(registry) + each + generate_latest(self._registry)


class _Collected:
    """One scrape's view of the runs and the operator, as prometheus-client collects it."""

    def __init__(self, state: OperatorState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """All families of the table that are neither counted as they happen nor told per run."""
        yield from self._operator()
        yield from _totals(self._state.runs)
        for name, rows in target_rows(self._state.runs).items():
            yield _gauge(name, rows)

    def _operator(self) -> Iterator[Metric]:
        yield _gauge("alignment_operator_build_info", [((version("alignment-operator"),), 1.0)])
        for name, value in self._state.values.items():
            rows = value.items() if isinstance(value, Mapping) else [("", value)]
            yield _gauge(name, [((label,) if label else (), number) for label, number in rows])


def _each(runs: tuple[RunRecord, ...]) -> Iterator[str]:
    """Exposition text of the series per run, a family at a time.

    Written out here, not by prometheus-client: it takes a third of the time, and with thousands of runs a scrape is this.
    """
    owners = [",".join(map(_label, _RUN, run.key)) for run in runs]

    def told(
        name: str, value: Callable[[RunRecord], float | None], *labels: Callable[[RunRecord], str]
    ) -> str:
        described = _BY_NAME[name]
        names = described.labels[len(_RUN) :]
        lines = [f"# HELP {name} {described.sentence}\n# TYPE {name} gauge\n"]
        for run, owner in zip(runs, owners, strict=True):
            number = value(run)
            if number is not None:
                more = "".join(
                    f",{_label(key, label(run))}" for key, label in zip(names, labels, strict=True)
                )
                lines.append(f"{name}{{{owner}{more}}} {float(number)!r}\n")
        return "".join(lines)

    def interval(name: str, of: Callable[[RunRecord], Estimate | None]) -> Iterator[str]:
        def end(part: Callable[[Estimate], float | None]) -> Callable[[RunRecord], float | None]:
            return lambda run: part(found) if (found := of(run)) is not None else None

        yield told(f"{name}_ratio", end(lambda e: e.estimate))
        yield told(f"{name}_confidence_low_ratio", end(lambda e: e.low))
        yield told(f"{name}_confidence_high_ratio", end(lambda e: e.high))

    yield told(
        "alignment_run_info",
        lambda _: 1.0,
        lambda run: run.summary.method,
        lambda run: run.summary.model,
        lambda run: run.summary.target,
    )
    yield told(
        "alignment_run_condition_timestamp_seconds",
        lambda run: run.summary.since or None,
        lambda _: "Succeeded",
        lambda run: run.summary.status,
        lambda run: run.summary.reason,
    )
    yield told(
        "alignment_run_progress_ratio",
        lambda run: run.summary.progress,
        lambda run: run.summary.stage,
    )
    yield from interval(
        "alignment_run_preference_accuracy",
        lambda run: run.summary.metrics.get(MetricName.PREFERENCE_ACCURACY),
    )
    yield from interval("alignment_run_win_rate", lambda run: run.summary.metrics.get(MetricName.WIN_RATE))
    yield told(
        "alignment_run_gate_estimate",
        _quiet(lambda summary: summary.criterion_estimate),
        lambda run: run.summary.criterion,
    )
    yield told(
        "alignment_run_gate_threshold",
        _quiet(lambda summary: summary.limits.get(summary.criterion)),
        lambda run: run.summary.criterion,
    )


def _quiet(value: Callable[[RunSummary], float | None]) -> Callable[[RunRecord], float | None]:
    """A value that gives way to a progress: while publish copies, the verdict's two series would be one too many."""
    return lambda run: value(run.summary) if run.summary.progress is None else None


def _label(name: str, value: str) -> str:
    """One label as Prometheus reads it."""
    if not value.isalnum():
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{value}"'


def _totals(runs: tuple[RunRecord, ...]) -> Iterator[Metric]:
    tally = Tally((run.key.namespace, run.summary.status, run.summary.reason) for run in runs)
    yield _gauge("alignment_runs", [(labels, float(count)) for labels, count in sorted(tally.items())])
    yield _durations(runs)
    published: dict[tuple[str, ...], float] = {}
    for run in runs:
        if run.summary.status == ConditionStatus.TRUE:
            where = (run.key.namespace, run.summary.target)
            published[where] = max(published.get(where, 0.0), run.summary.since)
    yield _gauge("alignment_publish_last_success_timestamp_seconds", sorted(published.items()))


def _durations(runs: tuple[RunRecord, ...]) -> Metric:
    name, sentence, labels = _described("alignment_stage_duration_seconds")
    family = GaugeHistogramMetricFamily(name, sentence, labels=labels)
    for position, stage in enumerate(STAGES):
        values = [seconds for run in runs if (seconds := run.summary.stage_seconds[position]) is not None]
        counts = Tally(bisect_left(_STAGE_BOUNDS, seconds) for seconds in values)
        total, buckets = 0, []
        for index, bound in enumerate((*_STAGE_BOUNDS, float("inf"))):
            total += counts[index]
            buckets.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(total)))
        family.add_metric([str(stage)], buckets, sum(values))
    return family


def _gauge(name: str, rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    described: Series = _BY_NAME[name]
    family = GaugeMetricFamily(name, described.sentence, labels=described.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _described(name: str) -> tuple[str, str, tuple[str, ...]]:
    described = _BY_NAME[name]
    return described.name, described.sentence, described.labels
