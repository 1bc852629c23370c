"""docs/report.schema.json: the JSON schema of ``report.json``."""

from __future__ import annotations

import json

from alignment_api.report import Report

__all__ = ["page"]


def page() -> str:
    """The schema as JSON."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
