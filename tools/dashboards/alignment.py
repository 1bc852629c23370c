"""The dashboard *Alignment*: is the model getting better, and why was the last candidate released or not?"""

from __future__ import annotations

from typing import Any

from tools.dashboards.panels import Panel, Query, bars, dashboard, number, variable

__all__ = ["build"]

_EVERYWHERE = 'namespace=~"$namespace"'
_HERE = 'namespace=~"$namespace", target="$target"'
_LATELY = "6h"
"""For lines by run: over months these would be all that were ever among the first twenty."""
_BAND: dict[str, Any] = {"custom.lineWidth": 0, "custom.fillOpacity": 0, "custom.hideFrom": {"legend": True}}
_LIMIT: dict[str, Any] = {
    "color": {"mode": "fixed", "fixedColor": "red"},
    "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
    "custom.fillOpacity": 0,
}


def _metric(metric: str, run: str, bound: str) -> str:
    found = f'alignment_target_metric{{{_HERE}, run="{run}", metric="{metric}", bound="{bound}"}}'
    return f"max({found})"


def _over_time(metric: str, title: str, description: str, unit: str) -> Panel:
    """The newest candidate's estimate with its interval, and the gate's limit where it asks for this metric."""
    limit = f'max(alignment_target_gate_threshold{{{_HERE}, metric="{metric}"}})'
    return Panel(
        "timeseries",
        title,
        description,
        unit,
        (
            Query(_metric(metric, "newest", "high"), "high"),
            Query(_metric(metric, "newest", "low"), "low"),
            Query(_metric(metric, "newest", "estimate"), "newest candidate"),
            Query(limit, "limit"),
        ),
        width=8,
        height=9,
        custom={"lineInterpolation": "stepAfter", "lineWidth": 2, "fillOpacity": 0, "spanNulls": True},
        options={
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi"},
        },
        overrides=(
            ("^(high|low)$", _BAND),
            ("^high$", {"custom.fillBelowTo": "low", "custom.fillOpacity": 18}),
            ("^limit$", _LIMIT),
        ),
    )


def _now() -> tuple[Panel, ...]:
    newest = f"max by (target, name, reason) (alignment_target_newest_info{{{_EVERYWHERE}}})"
    champion = f"max by (target, name) (alignment_target_champion_info{{{_EVERYWHERE}}})"
    hide = {"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}
    return (
        Panel(
            "table",
            "Newest outcome",
            "How the newest finished run of each alias ended. The reason is explained on the page Troubleshooting.",
            "string",
            (Query(newest, instant=True),),
            width=10,
            height=6,
            transformations=(hide,),
        ),
        Panel(
            "table",
            "Champion",
            "The run that published last to each alias.",
            "string",
            (Query(champion, instant=True),),
            width=6,
            height=6,
            transformations=(hide,),
        ),
        number(
            "Since the last release",
            "Time since a run last published. Yellow beyond the planned cadence of a week, red beyond two.",
            "s",
            Query(f"time() - max(alignment_publish_last_success_timestamp_seconds{{{_HERE}}})", "age"),
            height=6,
            thresholds=((None, "green"), (604800, "yellow"), (1209600, "red")),
        ),
        number(
            "Failed verdicts in a row",
            "Verdicts Failed, counted back from the newest. The gate works, but training makes the model worse.",
            "none",
            Query(f"max(alignment_target_failed_verdicts{{{_HERE}}})", "in a row"),
            height=6,
            thresholds=((None, "green"), (1, "yellow"), (3, "red")),
        ),
    )


def _better() -> tuple[Panel, ...]:
    return (
        _over_time(
            "editBurden",
            "Edit burden",
            "How much less people have to edit the newest candidate's text than the champion's, with its 95 % interval. "
            "Below the limit is better. The gate judges by a one-sided bound at the level that the error budget grants, not "
            "by this interval.",
            "percentunit",
        ),
        _over_time(
            "winRate",
            "Win rate",
            "Share of generated texts that the judge prefers to the champion's, ties half, with its 95 % interval. "
            "Only with a judge. Above the limit is better.",
            "percentunit",
        ),
        _over_time(
            "preferenceAccuracy",
            "Preference accuracy",
            "Share of held-out pairs whose chosen side gained more probability than the rejected one, with its 95 % "
            "interval. Direction only: it rises on models that nobody prefers. A limit is drawn where the gate asks for one.",
            "percentunit",
        ),
    )


def _why() -> tuple[Panel, ...]:
    outcomes = f"max by (reason) (alignment_target_newest_info{{{_HERE}}})"
    champions = f"max by (name) (alignment_target_champion_info{{{_HERE}}})"
    accuracy = _metric("preferenceAccuracy", "newest", "estimate")
    worst = _metric("worstCohortAccuracy", "newest", "estimate")
    timeline = {"mergeValues": True, "showValue": "never", "legend": {"displayMode": "hidden"}}
    return (
        Panel(
            "state-timeline",
            "Verdicts over time",
            "How the newest run had ended at each time: one line per reason, coloured while it was the newest.",
            "none",
            (Query(outcomes, "{{reason}}"),),
            options=timeline,
            overrides=(
                ("^Published$", {"color": {"mode": "fixed", "fixedColor": "green"}}),
                ("^(GateFailed|Rejected)$", {"color": {"mode": "fixed", "fixedColor": "red"}}),
                ("^GateInconclusive$", {"color": {"mode": "fixed", "fixedColor": "yellow"}}),
            ),
            custom={"fillOpacity": 80, "lineWidth": 0},
        ),
        Panel(
            "state-timeline",
            "Champions over time",
            "Which run was the champion: one line per release in the chosen time.",
            "none",
            (Query(champions, "{{name}}"),),
            options=timeline,
            custom={"fillOpacity": 80, "lineWidth": 0},
        ),
        bars(
            "What became of the rows",
            "Rows of the newest run with data: what was used, and why the rest was not.",
            "short",
            Query(f"sum by (fate) (alignment_target_rows{{{_HERE}}})", "{{fate}}"),
        ),
        Panel(
            "timeseries",
            "Rows over time",
            "The same, for each newest run over time: a source that changed its format shows here.",
            "short",
            (Query(f"sum by (fate) (alignment_target_rows{{{_HERE}}})", "{{fate}}"),),
            width=8,
            custom={"stacking": {"mode": "normal"}, "fillOpacity": 40, "lineInterpolation": "stepAfter"},
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Cohort disagreement",
            "Preference accuracy over all minus that of the cohort where it is lowest: how far the cohorts are apart.",
            "percentunit",
            (Query(f"{accuracy} - {worst}", "disagreement"),),
            width=8,
            custom={"lineInterpolation": "stepAfter", "fillOpacity": 10},
        ),
    )


def _work() -> tuple[Panel, ...]:
    mean = "max by (stage) (alignment_stage_duration_seconds_gsum / (alignment_stage_duration_seconds_gcount > 0))"
    slow = "histogram_quantile(0.9, max by (stage, le) (alignment_stage_duration_seconds_bucket))"
    return (
        Panel(
            "timeseries",
            "Runs that go on",
            "Runs without an end yet, by where they stand.",
            "short",
            (
                Query(
                    'sum by (reason) (max by (namespace, reason) (alignment_runs{namespace=~"$namespace", status="Unknown"}))',
                    "{{reason}}",
                ),
            ),
            width=8,
            custom={"stacking": {"mode": "normal"}, "fillOpacity": 40},
            minimum=0,
        ),
        Panel(
            "timeseries",
            "Progress",
            "Share of the running stage that is done, for the twenty runs that are furthest.",
            "percentunit",
            (
                Query(
                    'topk(20, max by (name, stage) (alignment_run_progress_ratio{namespace=~"$namespace"}))',
                    "{{name}} {{stage}}",
                ),
            ),
            width=8,
            minimum=0,
            maximum=1,
            since=_LATELY,
        ),
        bars(
            "Time per stage",
            "Running time of finished stages of all runs that exist: mean, and nine out of ten.",
            "s",
            Query(mean, "{{stage}} mean"),
            Query(slow, "{{stage}} 90 %"),
        ),
        Panel(
            "timeseries",
            "Live: training loss",
            "Loss of the stages that train now, from their pods. 0.693 at the first step of the sigmoid loss.",
            "none",
            (Query(f"topk(20, alignment_stage_loss{{{_EVERYWHERE}}})", "{{pod}}"),),
            since=_LATELY,
        ),
        Panel(
            "timeseries",
            "Live: reward margin",
            "Mean reward of the chosen side minus that of the rejected side on training pairs. Should rise.",
            "none",
            (Query(f"topk(20, alignment_stage_rewards_margins{{{_EVERYWHERE}}})", "{{pod}}"),),
            since=_LATELY,
        ),
    )


def build() -> dict[str, Any]:
    """The dashboard as Grafana's JSON."""
    return dashboard(
        "alignment-runs",
        "Alignment",
        "Is the model getting better, and why was the last candidate released or not?",
        (
            ("Now", _now()),
            ("Is the newest candidate better than the champion?", _better()),
            ("Why", _why()),
            ("Work in progress", _work()),
        ),
        (
            variable("namespace", "Namespace", "label_values(alignment_target_cadence_seconds, namespace)"),
            variable(
                "target",
                "Alias",
                'label_values(alignment_target_cadence_seconds{namespace=~"$namespace"}, target)',
                multiple=False,
            ),
        ),
        since="now-90d",
    )
