"""The resource definition on a real API server: every rule and bound, explained fields, nothing pruned."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tools.cluster.shell import wait_until
from tools.crdgen.__main__ import crd

from support.api import Api, Refused, connected
from support.cluster import Team
from support.crd_cases import CASES, TRANSITIONS, bound_cases, full, minimal

SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SAMPLES = {"sha256": f"sha256:{'a' * 64}"}


@pytest.fixture
def api(notes: Team) -> Iterator[Api]:
    with connected(notes.kubectl, notes.name) as made:
        yield made


def test_every_rule_accepts_and_rejects_as_its_case_says(api: Api) -> None:
    for case in CASES:
        api.create(placed(case.accepted, api))
        with pytest.raises(Refused, match=re.escape(case.message)):
            api.create(placed(case.rejected, api))


def test_every_rule_on_changes_holds_and_answers_with_its_sentence(api: Api) -> None:
    for number, case in enumerate(TRANSITIONS):
        start = placed(case.start, api)
        start["metadata"]["name"] = f"case-{number}"
        # Suspended, so that the operator lets it be.
        start["spec"]["suspend"] = True
        api.create(start, dry_run=False)
        current = seen(api, start["metadata"]["name"])
        for manifest, refused in ((case.allowed, False), (case.refused, True)):
            later = copy.deepcopy(manifest)
            version = current["metadata"]["resourceVersion"]
            later["metadata"] = {"name": f"case-{number}", "resourceVersion": version}
            later["spec"].setdefault("suspend", True)
            if refused:
                with pytest.raises(Refused, match=re.escape(case.message)):
                    api.replace(later)
            else:
                api.replace(later)


def test_every_bound_refuses_what_lies_beyond_it(api: Api) -> None:
    accepted = []
    cases = list(bound_cases(SCHEMA["properties"]["spec"]))
    for case in cases:
        try:
            api.create(placed(case.rejected, api))
        except Refused:
            continue
        accepted.append(f"{case.path} {case.bound}")
    assert len(cases) > 100
    assert accepted == []


def test_no_field_of_the_spec_is_pruned(api: Api) -> None:
    manifest = placed(full(), api)
    stored = api.create(manifest)
    assert list(missing(manifest["spec"], stored["spec"])) == []


def test_no_field_of_the_status_is_pruned(api: Api) -> None:
    manifest = placed(minimal(), api)
    manifest["spec"]["suspend"] = True
    api.create(manifest, dry_run=False)
    stored = seen(api, manifest["metadata"]["name"])
    stored["status"] = sample(SCHEMA["properties"]["status"], "status")
    del stored["metadata"]["managedFields"]
    written = api.replace(stored, part="/status")
    assert list(missing(stored["status"], written["status"])) == []


def test_a_misspelt_field_is_refused_by_name(api: Api) -> None:
    manifest = placed(minimal(), api)
    manifest["spec"]["training"] = {"learningrate": 1e-4}
    with pytest.raises(Refused, match="learningrate"):
        api.create(manifest)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("alignmentrun", "preference signal to a published"),
        ("alignmentrun.spec.training.beta", "beta"),
        ("alignmentrun.spec.gate.criteria.maximum", "metric must lie below"),
        ("alignmentrun.status.conditions.reason", "troubleshooting"),
    ],
)
def test_kubectl_explain_says_what_a_field_means(notes: Team, field: str, words: str) -> None:
    text = " ".join(notes.kubectl("explain", field).split())
    assert words in text


def seen(api: Api, name: str) -> dict[str, Any]:
    """The run once the operator has said that it is suspended: from then on it leaves it alone."""
    wait_until("the operator has seen the run", 60, lambda: bool(api.get(name).get("status")))
    return api.get(name)


def placed(manifest: dict[str, Any], api: Api) -> dict[str, Any]:
    out = copy.deepcopy(manifest)
    out["metadata"]["namespace"] = api.namespace
    return out


def missing(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Paths of what was sent and did not come back."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            if key not in (found or {}):
                yield f"{path}.{key}"
            else:
                yield from missing(value, found[key], f"{path}.{key}")
    elif isinstance(wanted, list):
        if len(wanted) != len(found):
            yield path
        for number, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from missing(one, other, f"{path}.{number}")


def sample(schema: dict[str, Any], path: str) -> Any:
    """A value with every field set, made from the schema itself."""
    if "properties" in schema:
        return {name: sample(child, f"{path}.{name}") for name, child in schema["properties"].items()}
    if "additionalProperties" in schema:
        return {"key": sample(schema["additionalProperties"], path)}
    if "items" in schema:
        return [sample(schema["items"], path)]
    return leaf(schema)


def leaf(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] in ("integer", "number"):
        return schema.get("maximum", 1)
    if schema["type"] == "boolean":
        return True
    if schema.get("format") == "date-time":
        return "2026-01-05T12:00:00Z"
    pattern = schema.get("pattern", "")
    return next((text for words, text in SAMPLES.items() if words in pattern), "a")
