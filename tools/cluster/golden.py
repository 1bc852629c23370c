"""Record what the chart renders with its defaults, for the comparison in tests/integration/test_chart.py."""

from __future__ import annotations

from pathlib import Path

import yaml

from tools.cluster import binaries, chart, shell

__all__ = ["main"]

GOLDEN = Path(__file__).parents[2] / "tests" / "data" / "chart" / "default.yaml"


def main() -> None:
    """Write the golden file, without the resource definitions, which have a test of their own."""
    text = shell.run([binaries.find("helm"), "template", "ao", chart.CHART, "--namespace", "operators"])
    documents = [d for d in yaml.safe_load_all(text) if d and d["kind"] != "CustomResourceDefinition"]
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
