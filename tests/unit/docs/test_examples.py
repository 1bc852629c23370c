"""Every example is a valid run, explained in its first line, listed in the table, and readable by ``align run``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from alignment_api.run import AlignmentRun
from alignment_cli.manifests import load_manifest
from support.documents import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_one_valid_run_named_like_its_file(path: Path) -> None:
    assert load_manifest(path).metadata.name == path.stem
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        assert {"apiVersion", "kind", "metadata"} <= set(document)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_explains_itself(path: Path) -> None:
    assert re.match(r"# [A-Z].{20,}", path.read_text(encoding="utf-8"))


def test_the_table_lists_every_example_and_no_other() -> None:
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w.-]+\.yaml)\)", table)) == {path.name for path in EXAMPLES}


def test_the_examples_show_what_they_promise() -> None:
    runs = {path.stem: load_manifest(path) for path in EXAMPLES}

    def spec(name: str) -> AlignmentRun:
        return runs[name]

    assert spec("lora-one-gpu").spec.training.lora is not None
    assert spec("full-weights-several-nodes").spec.training.lora is None
    assert spec("full-weights-several-nodes").spec.pods.train.nodes > 1
    assert spec("judge").spec.evaluation.judge.type == "OpenAICompatible"
    assert spec("manual-approval").spec.gate.approval == "Manual"
    assert spec("kueue-queue").spec.pods.queue_name
    assert spec("s3-workload-identity").spec.pods.service_account_name
    assert spec("s3-workload-identity").spec.storage.credentials_secret_ref is None
