"""Render the chart as Helm does, without a cluster."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tools.cluster import binaries

__all__ = ["CHART", "Refused", "helms", "render"]

CHART = Path(__file__).parents[2] / "charts" / "alignment-operator"
Json = dict[str, Any]


class Refused(Exception):
    """What helm said when it would not render."""


@functools.cache
def helms() -> dict[str, Path]:
    """The Helm programs to test with, by major version. Raises binaries.Unavailable."""
    return {"4": binaries.find("helm"), "3": binaries.find("helm3")}


def render(
    *settings: str,
    helm: Path | None = None,
    values: Json | None = None,
    name: str = "ao",
    namespace: str = "operators",
) -> list[Json]:
    """The manifests of ``helm template``; settings as for --set. Raises Refused with helm's words."""
    program = helm or helms()["4"]
    command = [
        str(program),
        "template",
        name,
        str(CHART),
        "--namespace",
        namespace,
        "--values",
        "-",
        "--kube-version",
        "1.35.0",
    ]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(
        command, input=yaml.safe_dump(values or {}), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]
