"""Cold start: the command line answers at once, and prepare never loads what only training needs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest


def seconds_of(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - began


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(chr(10).join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


def test_help_answers_within_half_a_second_of_a_bare_interpreter() -> None:
    help_seconds = statistics.median(
        seconds_of(sys.executable, "-m", "alignment_cli.main", "--help") for _ in range(5)
    )
    assert help_seconds < 0.5 or help_seconds < 12 * statistics.median(
        seconds_of(sys.executable, "-c", "") for _ in range(5)
    )


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        (
            "import alignment_trainer.data.stage, alignment_trainer.main",
            {"torch", "transformers", "trl", "scipy"},
        ),
        ("import alignment_trainer.publishing.stage", {"torch", "transformers", "scipy"}),
        ("import alignment_cli.main", {"torch", "boto3", "pyarrow", "yaml", "rich", "kubernetes"}),
        ("import alignment_operator.core.plan", {"kopf", "kubernetes", "aiohttp", "torch"}),
        ("import alignment_api.run", {"yaml", "torch", "kubernetes"}),
    ],
    ids=["prepare", "publish", "align", "plan", "contract"],
)
def test_what_is_not_needed_is_not_imported(statement: str, forbidden: set[str]) -> None:
    assert modules_after(statement) & forbidden == set()
