"""The generated CRD: up to date, structural, bounded, described; its rules and bounds hold in Python too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from tools.crdgen.__main__ import TARGET, crd, render

from alignment_api.run import AlignmentRun, transition_errors
from alignment_api.spec import AlignmentRunSpec
from alignment_api.status import AlignmentRunStatus
from support.crd_cases import (
    CASES,
    TRANSITIONS,
    BoundCase,
    Case,
    Transition,
    bound_cases,
    changed,
    full,
    minimal,
)

SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC: dict[str, Any] = SCHEMA["properties"]["spec"]
BOUNDS = list(bound_cases(SPEC))


SET_ONCE = "decision may be set once and not changed"
NOT_AT_CREATION = "spec.gate.decision cannot be set when the run is created: nobody has asked for one yet"


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


NODES = [(path, node) for path, node in nodes(SCHEMA) if path != ".metadata"]


def test_the_committed_file_is_what_the_models_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run `make crds`"


def test_no_bare_word_is_a_boolean_to_the_yaml_that_kubernetes_reads() -> None:
    assert not re.search(r"(^|[ -])([yYnN]|yes|no|on|off):", TARGET.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_field_a_person_reads_is_described() -> None:
    silent = [
        path for path, node in NODES if path and not path.endswith(("[]", "{}")) and "description" not in node
    ]
    assert silent == []


def test_every_list_says_how_it_is_merged_and_is_bounded() -> None:
    lists = [(path, node) for path, node in NODES if node.get("type") == "array"]
    assert lists
    for path, node in lists:
        assert node.get("x-kubernetes-list-type") in {"atomic", "map", "set"}, path
        assert "maxItems" in node, path
        for key in node.get("x-kubernetes-list-map-keys", []):
            item = node["items"]
            assert key in item.get("required", []) or "default" in item["properties"][key], (
                f"{path}: key {key}"
            )


def test_every_string_and_map_of_the_spec_is_bounded() -> None:
    for path, node in nodes(SPEC, ".spec"):
        if node.get("type") == "string":
            assert {"maxLength", "enum", "format"} & node.keys(), path
        if node.get("type") == "integer":
            assert {"minimum", "maximum"} <= node.keys(), path
        if node.get("type") == "number":
            assert {"minimum", "maximum"} <= node.keys(), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_the_schema_is_structural() -> None:
    for path, node in NODES:
        assert not {
            "$ref",
            "title",
            "const",
            "propertyNames",
            "anyOf",
            "oneOf",
            "allOf",
            "not",
        } & node.keys() or node.get("x-kubernetes-int-or-string"), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_the_full_manifest_sets_every_field_of_the_spec() -> None:
    manifest = full()["spec"]
    missing = []

    def walk(schema: dict[str, Any], value: Any, path: str) -> None:
        for name, child in schema.get("properties", {}).items():
            if name in {"decision", "uri"} and path.endswith((".gate", ".judge")):
                continue  # a decision comes later; a judge has either a uri or a url
            if name not in value:
                missing.append(f"{path}.{name}")
            elif child.get("type") == "array":
                for item in value[name]:
                    if child["items"].get("type") == "object" and name not in {"criteria", "tolerations"}:
                        walk(child["items"], item, f"{path}.{name}[]")
            else:
                walk(child, value[name], f"{path}.{name}")

    walk(SPEC, manifest, "spec")
    assert missing == []


def test_the_full_manifest_survives_a_round_trip() -> None:
    manifest = full()
    assert (
        AlignmentRunSpec.model_validate(manifest["spec"]).to_wire()
        == AlignmentRun.model_validate(manifest).to_wire()["spec"]
    )
    assert (
        AlignmentRun.model_validate(AlignmentRun.model_validate(manifest).to_wire()).spec.to_wire()
        == AlignmentRunSpec.model_validate(manifest["spec"]).to_wire()
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.message)
def test_rules_hold_in_python(case: Case) -> None:
    AlignmentRun.model_validate(case.accepted)
    with pytest.raises(ValidationError):
        AlignmentRun.model_validate(case.rejected)


@pytest.mark.parametrize("case", TRANSITIONS, ids=lambda c: c.message)
def test_rules_on_changes_hold_in_python(case: Transition) -> None:
    start = AlignmentRun.model_validate(case.start)
    assert transition_errors(AlignmentRun.model_validate(case.allowed), start) == []
    assert case.message in transition_errors(AlignmentRun.model_validate(case.refused), start)


def test_every_rule_has_a_case() -> None:
    def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
        if model not in seen:
            seen.add(model)
            for field in model.model_fields.values():
                for part in _classes(field.annotation):
                    models(part, seen)
        return seen

    every = models(AlignmentRun, set())
    rules = {rule.message for model in every for rule in getattr(model, "RULES", ())}
    transitions = {rule.message for model in every for rule in getattr(model, "TRANSITIONS", ())}
    assert rules == {case.message for case in CASES}
    assert transitions - {case.message for case in TRANSITIONS} == {SET_ONCE, NOT_AT_CREATION}


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _classes(argument)


@pytest.mark.parametrize("case", BOUNDS, ids=lambda c: f"{c.path} {c.bound}")
def test_bounds_hold_in_python(case: BoundCase) -> None:
    with pytest.raises(ValidationError):
        AlignmentRun.model_validate(case.rejected)


# The name of a run is refused by its own type before any rule is asked.
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.message.startswith("metadata.name")], ids=lambda c: c.message
)
def test_a_broken_rule_is_answered_with_its_sentence(case: Case) -> None:
    with pytest.raises(ValidationError, match=re.escape(case.message)):
        AlignmentRun.model_validate(case.rejected)


def test_two_items_with_one_key_are_refused_with_a_sentence_that_names_it() -> None:
    # Judged by name, the second one's evidence would let the first one pass.
    criteria = [{"name": "better", "metric": m, "minimum": 0.5} for m in ("winRate", "preferenceAccuracy")]
    with pytest.raises(ValidationError, match="more than one item has the name 'better'") as refused:
        AlignmentRun.model_validate(changed(minimal(), "spec.gate.criteria", criteria))
    assert refused.value.errors()[0]["loc"] == ("spec", "gate", "criteria")
    metric = {"name": "anchorLossDelta", "selector": "general"}
    with pytest.raises(ValidationError, match="the name 'anchorLossDelta' and the selector 'general'"):
        AlignmentRunStatus.model_validate({"metrics": [metric, metric]})
    AlignmentRunStatus.model_validate({"metrics": [metric, metric | {"selector": "other"}]})


def test_unknown_fields_are_errors() -> None:
    manifest = full()
    manifest["spec"]["training"]["learningrate"] = 1e-4
    with pytest.raises(ValidationError, match="learningrate"):
        AlignmentRun.model_validate(manifest)


def test_a_waiting_run_accepts_one_decision_and_keeps_it() -> None:
    waiting = {
        "type": "Succeeded",
        "status": "Unknown",
        "reason": "AwaitingDecision",
        "lastTransitionTime": "2026-01-05T12:00:00Z",
    }
    asked = AlignmentRun.model_validate(minimal() | {"status": {"conditions": [waiting]}})
    approved = AlignmentRun.model_validate(
        changed(
            asked.to_wire(), "spec.gate.decision", {"result": "Approve", "by": "someone", "reason": "read it"}
        )
    )
    assert transition_errors(approved, asked) == []
    for later in ({"result": "Reject", "by": "someone", "reason": "read it again"}, ...):
        other = AlignmentRun.model_validate(changed(approved.to_wire(), "spec.gate.decision", later))
        assert SET_ONCE in transition_errors(other, approved)


def test_a_run_cannot_be_created_with_its_decision_made() -> None:
    decided = {"result": "Approve", "by": "someone", "reason": "in advance"}
    run = AlignmentRun.model_validate(changed(minimal(), "spec.gate.decision", decided))
    assert transition_errors(run, None) == [NOT_AT_CREATION]
