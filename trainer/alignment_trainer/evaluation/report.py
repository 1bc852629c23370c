"""The report: ``report.json`` for programs, ``report.html`` for people, one self-contained file without network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment_api.evidence import Evidence, MetricResult
from alignment_api.metrics import METRICS
from alignment_api.stage import StageRequest
from alignment_api.verdict import Verdict
from alignment_trainer.data.rows import plain
from alignment_trainer.evaluation.material import Material

__all__ = ["build_report", "render_html"]

_SHOWN_GENERATIONS = 12


def build_report(
    request: StageRequest,
    material: Material,
    metrics: Sequence[MetricResult],
    evidence: Evidence,
    verdict: Verdict,
    *,
    notes: list[str],
    funnel: dict[str, Any],
    training: dict[str, Any],
) -> dict[str, Any]:
    """The report as JSON-able data; no prompts or answers but a dozen examples."""
    assert request.pins is not None  # noqa: S101  the contract: only prepare has none
    return {
        "version": 1,
        "run": request.run.to_wire(),
        "pins": request.pins.to_wire(),
        "candidate": {str(stage): ref.to_wire() for stage, ref in request.inputs.items()},
        "verdict": verdict.to_wire(),
        "evidence": evidence.to_wire()["criteria"],
        "metrics": [
            metric.to_wire() | {"sentence": METRICS[metric.name].sentence, "unit": METRICS[metric.name].unit}
            for metric in metrics
        ],
        "notes": notes,
        "data": funnel,
        "training": training,
        "holdoutPairs": len(material.pairs),
        "championTemperature": material.champion_temperature,
        "examples": [
            {
                "prompt": plain(material.pairs[index].prompt),
                "final": plain(material.pairs[index].chosen),
                "candidate": ours.text,
                "champion": theirs.text,
            }
            for index, ours, theirs in list(
                zip(material.prompted, material.candidate, material.champion, strict=True)
            )[:_SHOWN_GENERATIONS]
        ],
    }


def render_html(report: dict[str, Any]) -> str:
    """The report as one HTML file, light and dark, readable on a phone."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("alignment_trainer.evaluation"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3g}"
    return environment.get_template("report.html.j2").render(
        report=report, intervals=[_interval(e) for e in report["evidence"]], curve=_curve(report["training"])
    )


def _interval(evidence: dict[str, Any]) -> dict[str, Any] | None:
    """Positions (0 to 100) of a criterion's interval, estimate and limit on one axis."""
    criterion = evidence["criterion"]
    limit = criterion.get("maximum", criterion.get("minimum"))
    if any(evidence.get(name) is None for name in ("low", "high", "estimate")):
        return None
    points = [evidence["low"], evidence["high"], evidence["estimate"], limit]
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    return {
        name: 8 + 84 * (value - low) / span
        for name, value in zip(("low", "high", "estimate", "limit"), points, strict=True)
    }


def _curve(training: dict[str, Any]) -> str:
    """SVG polyline points of the training loss, 300 by 80, or an empty string."""
    losses = [entry["loss"] for entry in training.get("curve", []) if "loss" in entry]
    if len(losses) < 2:
        return ""
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    last = len(losses) - 1
    return " ".join(
        f"{300 * i / last:.1f},{75 - 70 * (loss - low) / span:.1f}" for i, loss in enumerate(losses)
    )
