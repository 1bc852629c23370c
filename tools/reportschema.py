"""Writes docs/report.schema.json, the published JSON schema of ``report.json``; a test compares it with the code."""

from __future__ import annotations

import json
from pathlib import Path

from alignment_api.report import Report

_FILE = Path(__file__).parents[1] / "docs" / "report.schema.json"

if __name__ == "__main__":
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    _FILE.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
