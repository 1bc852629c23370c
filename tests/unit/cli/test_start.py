"""Cold start: the command line answers at once, and prepare never loads what only training needs."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

import pytest


def processor_seconds_of(*command: str) -> float:
    """Processor time of a command: what it takes on an idle machine, also when this one is busy with other tests."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(chr(10).join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


def test_help_answers_within_half_a_second() -> None:
    command = (sys.executable, "-m", "alignment_cli.main", "--help")
    assert statistics.median(processor_seconds_of(*command) for _ in range(5)) < 0.5


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        (
            "import alignment_trainer.data.stage, alignment_trainer.main",
            {"torch", "transformers", "trl", "scipy"},
        ),
        ("import alignment_trainer.publishing.stage", {"torch", "transformers", "scipy"}),
        (
            "import alignment_trainer.evaluation.stage",
            {"torch", "transformers", "peft", "statsmodels", "pandas"},
        ),
        ("import alignment_cli.main", {"torch", "boto3", "pyarrow", "yaml", "rich", "kubernetes"}),
        ("import alignment_operator.core.plan", {"kopf", "kubernetes", "aiohttp", "torch"}),
        ("import alignment_api.run", {"yaml", "torch", "kubernetes"}),
    ],
    ids=["prepare", "publish", "evaluate", "align", "plan", "contract"],
)
def test_what_is_not_needed_is_not_imported(statement: str, forbidden: set[str]) -> None:
    assert modules_after(statement) & forbidden == set()
