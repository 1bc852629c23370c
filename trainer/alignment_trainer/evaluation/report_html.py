"""``report.html``: the report for people, one file without network, light and dark, on a screen and on a phone.

Geometry and word differences are computed here; what is said comes from the report's data alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Final

from alignment_api.evidence import CriterionEvidence
from alignment_api.metrics import METRICS, MetricFamily
from alignment_api.report import Report

__all__ = ["render_html"]

_MARGIN: Final = 6.0
"""Free space at both ends of an interval's axis, in per cent of its width."""
_CURVES: Final = (
    ("Loss", ("loss", "eval_loss")),
    ("Margin of chosen over rejected", ("rewards/margins", "eval_rewards/margins")),
)
_NAMES: Final = {
    "loss": "training",
    "eval_loss": "selection slice",
    "rewards/margins": "training",
    "eval_rewards/margins": "selection slice",
}
_PIECES: Final = re.compile(r"\s+|[^\s]+")


def render_html(report: Report) -> str:
    """The report as HTML. Every text of data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("alignment_trainer.evaluation"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:].rstrip('.')}."
    environment.filters["commas"] = lambda value: f"{value:,}"
    return environment.get_template("report.html.j2").render(
        report=report,
        criteria=[_criterion(report, number) for number in range(len(report.verdict.criteria))],
        families=_families(report),
        funnel=_funnel(report),
        curves=[curve for title, keys in _CURVES if (curve := _curve(report, title, keys))],
        examples=[_example(example) for example in report.examples],
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.3g}"
    return text.replace("-", "−")  # a minus sign, as wide as the plus


def _criterion(report: Report, number: int) -> dict[str, Any]:
    """A verdict with its evidence and the geometry of its interval."""
    verdict, evidence = report.verdict.criteria[number], report.evidence[number]
    return {
        "verdict": verdict,
        "evidence": evidence,
        "label": f"{verdict.metric} · {verdict.selector}" if verdict.selector else str(verdict.metric),
        "sentence": METRICS[verdict.metric].sentence,
        "plot": _interval(evidence),
    }


def _interval(evidence: CriterionEvidence) -> dict[str, Any] | None:
    """Positions in per cent on an axis that holds the interval, the estimate and the limit; which side is right."""
    if evidence.low is None or evidence.high is None or evidence.estimate is None:
        return None
    limit = evidence.criterion.limit
    points = (evidence.low, evidence.high, evidence.estimate, limit)
    low, high = min(points), max(points)
    span = (high - low) or max(abs(high), 1.0)

    def place(value: float) -> float:
        return round(_MARGIN + (100 - 2 * _MARGIN) * (value - low) / span, 2)

    at = place(limit)
    return {
        "low": place(evidence.low),
        "high": place(evidence.high),
        "estimate": place(evidence.estimate),
        "limit": at,
        "good": (at, 100 - at) if evidence.criterion.upwards else (0.0, at),
    }


def _families(report: Report) -> list[tuple[str, list[Any]]]:
    titles = {
        MetricFamily.SUPERIORITY: "From generated texts: may carry a release",
        MetricFamily.DIRECTION: "From log-probabilities: direction only",
        MetricFamily.COUNTER: "What must not get worse",
    }
    return [(title, [m for m in report.metrics if m.family is family]) for family, title in titles.items()]


def _funnel(report: Report) -> list[dict[str, Any]]:
    """Bars from rows to the two sides, and what was left out, largest first."""
    data = report.data
    total = max(data.rows, data.pairs, 1)
    kept = [
        ("rows read", data.rows),
        ("pairs", data.pairs),
        ("train side", data.train),
        ("held out", data.holdout),
    ]
    lost = [
        ("cannot be read", data.invalid),
        ("excluded on request", data.excluded),
        ("duplicates", data.duplicates),
        ("contradictions", data.contradictions),
        ("without a partner", data.unpaired),
        *data.dropped.items(),
    ]
    bars = [(name, count, True) for name, count in kept]
    bars += [(name, count, False) for name, count in sorted(lost, key=lambda x: -x[1]) if count]
    return [
        {"name": name, "count": count, "width": round(100 * count / total, 2), "kept": good}
        for name, count, good in bars
    ]


def _curve(report: Report, title: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """Lines of one chart, 600 by 160, over the logged steps of DPO; None where nothing was logged."""
    entries = [e for e in report.training.curve if e.get("phase") != "warmStart"]
    lines = {
        key: [(float(e["step"]), float(e[key])) for e in entries if key in e and "step" in e] for key in keys
    }
    lines = {key: points for key, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    width, height = (right - left) or 1.0, (high - low) or 1.0
    return {
        "title": title,
        "low": low,
        "high": high,
        "first": int(left),
        "last": int(right),
        "lines": [
            {
                "name": _NAMES[key],
                "points": " ".join(
                    f"{600 * (x - left) / width:.1f},{155 - 150 * (y - low) / height:.1f}" for x, y in points
                ),
            }
            for key, points in lines.items()
        ],
    }


def _example(example: Any) -> dict[str, Any]:
    return {
        "example": example,
        "candidate": _marked(example.candidate, example.final),
        "champion": _marked(example.champion, example.final),
    }


def _marked(text: str, final: str) -> list[tuple[str, bool]]:
    """Pieces of a text; True for those that the person would have to change to arrive at ``final``."""
    ours, theirs = _PIECES.findall(text.strip()), _PIECES.findall(final.strip())
    pieces: list[tuple[str, bool]] = []
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    for tag, i1, i2, _, _ in matcher.get_opcodes():
        if i2 > i1:
            pieces.append(("".join(ours[i1:i2]), tag != "equal"))
        elif tag == "insert":
            pieces.append(("‸", True))
    return pieces
