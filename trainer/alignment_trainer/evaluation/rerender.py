"""``report.html`` made again from a ``report.json`` that was changed after the evaluation: examples taken out of it.

Called by publish (a version holds no people's texts) and by erase. Computes nothing.
"""

from __future__ import annotations

from typing import Any

from alignment_api.report import Report
from alignment_trainer.evaluation.report_html import render_html

__all__ = ["rerendered"]


def rerendered(report: dict[str, Any]) -> str:
    """The HTML of a report as it stands in ``report.json``."""
    return render_html(Report.model_validate(report))
