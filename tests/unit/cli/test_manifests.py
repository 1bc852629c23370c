"""Manifests are read as the API server would read them, and what is wrong is said field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_cli.errors import CommandError
from alignment_cli.manifests import load_manifest, new_manifest
from support import runs


def written(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(CommandError) as caught:
        load_manifest(written(folder, text))
    return caught.value.message


def manifest(**spec: Any) -> str:
    return yaml.safe_dump(runs.manifest(**spec))


def test_a_section_given_twice_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    said = refusal(tmp_path, manifest(training={"epochs": 1}) + "spec: {}\n")
    assert "'spec' a second time" in said
    assert "line" in said


def test_a_number_without_a_point_is_a_number(tmp_path: Path) -> None:
    text = manifest() + "  training: {learningRate: 1e-4, beta: 2E-1}\n"
    training = load_manifest(written(tmp_path, text)).spec.training
    assert (training.learning_rate, training.beta) == (1e-4, 0.2)


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({"epochs": "3"}, "spec.training.epochs"),
        ({"epochs": True}, "spec.training.epochs"),
        ({"beta": "0.1"}, "spec.training.beta"),
        ({"loss": 1}, "spec.training.loss"),
    ],
    ids=["a number in quotes", "a truth for a number", "a float in quotes", "a number for a word"],
)
def test_types_are_as_strict_as_the_api_servers(tmp_path: Path, section: dict[str, Any], field: str) -> None:
    assert field in refusal(tmp_path, manifest(training=section))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"training": {"learning_rate": 1e-4}},
            "spec.training.learning_rate: unknown field; did you mean learningRate?",
        ),
        ({"training": {"lora": {"ranks": 8}}}, "spec.training.lora.ranks: unknown field; did you mean rank?"),
        (
            {"gate": {"criteria": [{"name": "a", "metrics": "editBurden"}]}},
            "spec.gate.criteria[0].metrics: unknown field; did you mean metric?",
        ),
        ({"training": {"zzz": 1}}, "spec.training.zzz: unknown field; docs/reference.md lists"),
    ],
    ids=["snake case", "nested", "in a list", "nothing near"],
)
def test_a_mistyped_field_is_answered_with_the_nearest_one(
    tmp_path: Path, spec: dict[str, Any], words: str
) -> None:
    assert words in refusal(tmp_path, manifest(**spec))


def test_a_day_without_quotes_stays_the_text_that_it_is(tmp_path: Path) -> None:
    text = manifest() + "  pods: {queueName: 2026-01-05}\n"
    assert load_manifest(written(tmp_path, text)).spec.pods.queue_name == "2026-01-05"


def test_a_resource_as_kubectl_prints_it_can_be_read_back(tmp_path: Path) -> None:
    document = runs.manifest()
    document["metadata"] |= {"creationTimestamp": "2026-01-05T12:00:00Z", "managedFields": []}
    assert load_manifest(written(tmp_path, yaml.safe_dump(document))).metadata.name == "notes"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "holds 0 AlignmentRuns (no mapping)"),
        ("", "it is empty"),
        ("kind: AlignmentRuns\n", "(AlignmentRuns)"),
        ("metadata: [\n", "is not YAML"),
    ],
    ids=["a list", "nothing", "another kind", "no YAML"],
)
def test_what_is_no_run_is_told_apart(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_a_name_and_a_uri_are_explained_rather_than_their_patterns(tmp_path: Path) -> None:
    assert "lower-case letters" in refusal(tmp_path, yaml.safe_dump(runs.manifest("Notes_1")))
    said = refusal(tmp_path, manifest(publish={"uri": "ftp://host/models/"}))
    assert "spec.publish.uri: must be a URI that begins with s3://, file:// or pvc://" in said
    pods = {"queueName": "my queue!", "train": {"nodeSelector": {"pool": "gpu nodes"}}}
    said = refusal(tmp_path, manifest(pods=pods))
    assert "spec.pods.queueName: must be lower-case letters" in said
    assert "spec.pods.train.nodeSelector.pool: must be the value of a label" in said


def test_a_clone_gets_no_name_that_no_run_may_have() -> None:
    with pytest.raises(CommandError, match="lower-case letters"):
        new_manifest(runs.run(), "X_Y")
