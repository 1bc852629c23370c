"""Building blocks of a dashboard: panels with a unit, a description and queries, laid out on Grafana's grid.

Only what the two dashboards need of Grafana's model; names follow Grafana's (a grid of 24 columns, legends with
``{{label}}``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

__all__ = ["Panel", "Query", "bars", "dashboard", "number", "substituted", "variable"]

Json = dict[str, Any]
_SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
_NEWEST: Final[Json] = {"calcs": ["lastNotNull"]}
_COLUMNS: Final = 24
_ROW_HEIGHT: Final = 1


@dataclass(frozen=True)
class Query:
    """One expression. legend: text with ``{{label}}``; instant: only the newest value, for tables and single numbers."""

    expression: str
    legend: str = ""
    instant: bool = False

    def to_json(self, letter: str) -> Json:
        """As a target of a panel."""
        return {
            "datasource": _SOURCE,
            "editorMode": "code",
            "expr": self.expression,
            "instant": self.instant,
            "range": not self.instant,
            "format": "table" if self.instant else "time_series",
            "legendFormat": self.legend or "__auto",
            "refId": letter,
        }


@dataclass(frozen=True)
class Panel:
    """A panel. kind: Grafana's type; unit: Grafana's name of it; width, height: in grid cells.

    options, custom: Grafana's own, on top of the defaults here; overrides: (name of a series, properties);
    thresholds, minimum, maximum: of the values; since: how far back it looks, such as ``6h``, where that is not as far as
    the dashboard.
    """

    kind: str
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    overrides: tuple[tuple[str, Json], ...] = ()
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    minimum: float | None = None
    maximum: float | None = None
    transformations: tuple[Json, ...] = ()
    since: str | None = None

    def to_json(self, number: int, x: int, y: int) -> Json:
        """As Grafana stores it."""
        defaults: Json = {
            "unit": self.unit,
            "custom": self.custom,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": color} for value, color in self.thresholds],
            },
        }
        if self.minimum is not None:
            defaults["min"] = self.minimum
        if self.maximum is not None:
            defaults["max"] = self.maximum
        looks_back = {"timeFrom": self.since} if self.since else {}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [query.to_json(chr(ord("A") + index)) for index, query in enumerate(self.queries)],
            "fieldConfig": {
                "defaults": defaults,
                "overrides": [
                    {
                        "matcher": {"id": "byRegexp", "options": name},
                        "properties": [{"id": key, "value": value} for key, value in properties.items()],
                    }
                    for name, properties in self.overrides
                ],
            },
            "options": self.options,
            "transformations": list(self.transformations),
            **looks_back,
        }


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    height: int,
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),),
    name: bool = False,
) -> Panel:
    """A panel of one present value, a sixth of a row wide. name: show the legend in its place."""
    return Panel(
        "stat",
        title,
        description,
        unit,
        (replace(query, instant=True),),
        width=4,
        height=height,
        options={"reduceOptions": _NEWEST, "colorMode": "value", "graphMode": "none"}
        | ({"textMode": "name"} if name else {}),
        thresholds=thresholds,
    )


def bars(title: str, description: str, unit: str, *queries: Query) -> Panel:
    """A panel of present values side by side, a third of a row wide."""
    return Panel(
        "bargauge",
        title,
        description,
        unit,
        queries,
        width=8,
        options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": _NEWEST},
        minimum=0,
    )


def variable(name: str, label: str, query: str, *, multiple: bool = True) -> Json:
    """A choice above the dashboard, filled from Prometheus."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multiple,
        "includeAll": multiple,
        "current": {"text": ["All"], "value": ["$__all"]} if multiple else {},
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Iterable[tuple[str, Iterable[Panel]]],
    variables: Iterable[Json] = (),
    *,
    since: str,
) -> Json:
    """A whole dashboard; panels of a row flow from left to right and wrap."""
    panels: list[Json] = []
    y = 0
    for name, members in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": name,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": _ROW_HEIGHT},
                "panels": [],
            }
        )
        y += _ROW_HEIGHT
        x, tallest = 0, 0
        for panel in members:
            if x + panel.width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(panel.to_json(len(panels) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["alignment-operator"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *variables]},
        "annotations": {"list": []},
        "panels": panels,
    }


def substituted(expression: str, target: str, *, rates_over: str) -> str:
    """A query as Grafana would send it to Prometheus: every namespace, one target, the last five minutes.

    rates_over: the interval of rates, such as ``1m``. Raises ValueError for a variable that has no value here.
    """
    for name, value in (
        ("$namespace", ".*"),
        ("$target", target),
        ("$__rate_interval", rates_over),
        ("$__range", "5m"),
    ):
        expression = expression.replace(name, value)
    if "$" in expression:
        raise ValueError(f"a variable of the dashboard has no value: {expression}")
    return expression
