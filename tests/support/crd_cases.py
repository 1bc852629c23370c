"""One accepted and one rejected manifest for every rule of the CRD, and one rejected for every bound.

Used twice: against the models (unit) and against a real API server (cluster). A rule without a case here
fails a test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CASES", "TRANSITIONS", "BoundCase", "Case", "Transition", "bound_cases", "full", "minimal"]

Manifest = dict[str, Any]
_FULL = Path(__file__).parents[1] / "data" / "crd" / "full.yaml"


def full() -> Manifest:
    """A manifest with every field of the spec set."""
    loaded: Manifest = yaml.safe_load(_FULL.read_text(encoding="utf-8"))
    return copy.deepcopy(loaded)


def minimal() -> Manifest:
    """A manifest with required fields only."""
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentRun",
        "metadata": {"name": "minimal"},
        "spec": {
            "model": {"uri": "s3://models/base/"},
            "data": {"sources": [{"uri": "s3://feedback/*.jsonl"}]},
            "publish": {"uri": "s3://models/notes/"},
            "artifacts": {"uri": "s3://artifacts/"},
        },
    }


def changed(base: Manifest, path: str, value: Any) -> Manifest:
    """``base`` with one dotted path set (numbers index lists); ``...`` removes it."""
    out = copy.deepcopy(base)
    node: Any = out
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    key: Any = int(last) if isinstance(node, list) else last
    if value is ...:
        del node[key]
    else:
        node[key] = value
    return out


@dataclass(frozen=True)
class Case:
    """One rule: its message, a manifest that keeps it and one that breaks it."""

    message: str
    accepted: Manifest
    rejected: Manifest


@dataclass(frozen=True)
class Transition:
    """One rule on changes: from a manifest, a change that is allowed and one that is not."""

    message: str
    start: Manifest
    allowed: Manifest
    refused: Manifest


_CRITERION = {"name": "edits", "metric": "editBurden"}
_JUDGE = "spec.evaluation.judge"
_WINS = [{"name": "wins", "metric": "winRate", "minimum": 0.5}]
_ANCHOR = {"name": "anchor", "metric": "anchorLossDelta", "selector": "general", "maximum": 0.05}
_ANCHORED = changed(
    minimal(), "spec.evaluation.anchors", [{"name": "general", "uri": "s3://eval/general.jsonl"}]
)


def _tolerating(**toleration: Any) -> Manifest:
    return changed(minimal(), "spec.pods.evaluate", {"tolerations": [toleration]})


CASES: tuple[Case, ...] = (
    Case(
        "metadata.name may have at most 40 characters, because children append to it",
        changed(minimal(), "metadata.name", "a" * 40),
        changed(minimal(), "metadata.name", "a" * 41),
    ),
    Case(
        "metadata.name must begin with a letter, may hold only small letters, digits and -, and must not end "
        "with -, because children named after it get addresses",
        changed(minimal(), "metadata.name", "notes-2026-w48"),
        changed(minimal(), "metadata.name", "2026-w48"),
    ),
    Case(
        "minimumDistance must be below maximumDistance",
        changed(
            minimal(),
            "spec.data.events",
            {"significantEdit": {"minimumDistance": 0.1, "maximumDistance": 0.2}},
        ),
        changed(
            minimal(),
            "spec.data.events",
            {"significantEdit": {"minimumDistance": 0.2, "maximumDistance": 0.2}},
        ),
    ),
    Case(
        "detectors must name at least one detector unless mode is None",
        changed(minimal(), "spec.data.redaction", {"mode": "Replace", "detectors": ["phones"]}),
        changed(minimal(), "spec.data.redaction", {"mode": "Replace"}),
    ),
    Case(
        "labelSmoothing must be above 0 for the losses smoothed, robust and exo_pair",
        changed(minimal(), "spec.training", {"loss": "robust", "labelSmoothing": 0.1}),
        changed(minimal(), "spec.training", {"loss": "robust"}),
    ),
    Case(
        "labelSmoothing is used by the losses smoothed, robust, exo_pair, aot and aot_unpaired only; take loss smoothed "
        "for label smoothing on sigmoid",
        changed(minimal(), "spec.training", {"loss": "aot", "labelSmoothing": 0.1}),
        changed(minimal(), "spec.training", {"labelSmoothing": 0.1}),
    ),
    Case(
        "dpopWeight needs the loss sigmoid: DPO-Positive is a change of that loss",
        changed(minimal(), "spec.training", {"loss": "sigmoid", "dpopWeight": 5.0}),
        changed(minimal(), "spec.training", {"loss": "ipo", "dpopWeight": 5.0}),
    ),
    Case(
        "uri belongs to, and is required by, type RewardModel",
        changed(minimal(), _JUDGE, {"type": "RewardModel", "uri": "s3://judges/a/"}),
        changed(minimal(), _JUDGE, {"type": "RewardModel"}),
    ),
    Case(
        "url and model belong to, and are required by, type OpenAICompatible",
        changed(minimal(), _JUDGE, {"type": "OpenAICompatible", "url": "https://judge/v1", "model": "m"}),
        changed(minimal(), _JUDGE, {"type": "OpenAICompatible", "url": "https://judge/v1"}),
    ),
    Case(
        "set exactly one of minimum and maximum",
        changed(minimal(), "spec.gate.criteria", [{**_CRITERION, "maximum": 0.0}]),
        changed(minimal(), "spec.gate.criteria", [{**_CRITERION, "maximum": 0.0, "minimum": -1.0}]),
    ),
    Case(
        "selector belongs to, and is required by, the metrics anchorLossDelta and refusalRate",
        changed(_ANCHORED, "spec.gate.criteria", [_ANCHOR]),
        changed(_ANCHORED, "spec.gate.criteria", [{**_CRITERION, "maximum": 0.0, "selector": "general"}]),
    ),
    Case(
        "the selector of a criterion must name a set: of evaluation.anchors for anchorLossDelta, "
        "of evaluation.refusals for refusalRate",
        changed(_ANCHORED, "spec.gate.criteria", [_ANCHOR]),
        changed(_ANCHORED, "spec.gate.criteria", [_ANCHOR | {"selector": "generel"}]),
    ),
    Case(
        "a blocking criterion on winRate or winRateLengthControlled needs evaluation.judge; "
        "without one its mode can only be DryRun",
        changed(
            changed(minimal(), _JUDGE, {"type": "RewardModel", "uri": "s3://judges/a/"}),
            "spec.gate.criteria",
            _WINS,
        ),
        changed(minimal(), "spec.gate.criteria", _WINS),
    ),
    Case(
        "reason is required when mode is Unlimited",
        changed(minimal(), "spec.gate.errorBudget", {"mode": "Unlimited", "reason": "an experiment"}),
        changed(minimal(), "spec.gate.errorBudget", {"mode": "Unlimited"}),
    ),
    Case(
        "kmsKeyId belongs to type KMS",
        changed(minimal(), "spec.storage.serverSideEncryption", {"type": "KMS", "kmsKeyId": "k"}),
        changed(minimal(), "spec.storage.serverSideEncryption", {"type": "AES256", "kmsKeyId": "k"}),
    ),
    Case(
        "names beginning with ALIGNMENT_ or AWS_ are reserved; credentials belong into storage.credentialsSecretRef",
        changed(minimal(), "spec.pods.train", {"env": [{"name": "OMP_NUM_THREADS", "value": "2"}]}),
        changed(minimal(), "spec.pods.train", {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]}),
    ),
    Case(
        "without a key the operator must be Exists: every taint is tolerated then",
        _tolerating(operator="Exists"),
        _tolerating(effect="NoSchedule"),
    ),
    Case(
        "value belongs to the operator Equal",
        _tolerating(key="dedicated", operator="Exists", value=""),
        _tolerating(key="dedicated", operator="Exists", value="training"),
    ),
    Case(
        "tolerationSeconds needs the effect NoExecute",
        _tolerating(key="dedicated", value="training", effect="NoExecute", tolerationSeconds=60),
        _tolerating(key="dedicated", value="training", tolerationSeconds=60),
    ),
    Case(
        "resources are cpu, memory, ephemeral-storage, hugepages-<size>, or have a domain, e.g. nvidia.com/gpu",
        changed(
            minimal(),
            "spec.pods.evaluate.resources.limits",
            {"cpu": 1, "ephemeral-storage": "1Gi", "hugepages-2Mi": "4Mi", "nvidia.com/mig-1g.5gb": 1},
        ),
        changed(minimal(), "spec.pods.evaluate.resources.limits", {"gpu": 1}),
    ),
    Case(
        "keys of nodeSelector must be keys of labels, e.g. pool or nvidia.com/gpu.product",
        changed(
            minimal(),
            "spec.pods.evaluate.nodeSelector",
            {"pool": "", "nvidia.com/gpu.product": "NVIDIA-L40S"},
        ),
        changed(minimal(), "spec.pods.evaluate.nodeSelector", {"gpu nodes": "true"}),
    ),
)
"""Rules on one manifest."""

_DECISION = {"result": "Approve", "by": "someone", "reason": "read it"}


def _immutable(field: str, value: Any) -> Transition:
    return Transition(
        f"{field} is immutable; clone the run to change it (align clone)",
        minimal(),
        changed(minimal(), "spec.suspend", True),
        changed(minimal(), f"spec.{field}", value),
    )


TRANSITIONS: tuple[Transition, ...] = (
    _immutable("model", {"uri": "s3://models/other/"}),
    _immutable("data", {"sources": [{"uri": "s3://feedback/other/*.jsonl"}]}),
    _immutable("training", {"beta": 0.5}),
    _immutable("evaluation", {"generation": {"prompts": 10}}),
    _immutable("publish", {"uri": "s3://models/other/"}),
    _immutable("artifacts", {"uri": "s3://other/"}),
    _immutable("storage", {"region": "eu-central-1"}),
    _immutable("pods", {"queueName": "gpus"}),
    _immutable("backoffLimit", 7),
    _immutable("activeDeadlineSeconds", 60),
    Transition(
        "gate is immutable except for decision; clone the run to change it (align clone)",
        minimal(),
        changed(minimal(), "spec.ttlSecondsAfterFinished", 60),
        changed(minimal(), "spec.gate.approval", "Manual"),
    ),
    Transition(
        "spec.gate.decision can only be set while the run awaits a decision (reason AwaitingDecision)",
        minimal(),
        minimal(),
        changed(minimal(), "spec.gate.decision", _DECISION),
    ),
)
"""Rules on a change, testable without a status. That a decision is set once needs a waiting run: see the tests."""


@dataclass(frozen=True)
class BoundCase:
    """One bound of the schema and a manifest that breaks just it."""

    path: str
    bound: str
    rejected: Manifest


_BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "maxLength": lambda s: "a" * (s["maxLength"] + 1),
    "minLength": lambda _: "",
    "pattern": lambda _: " not a match ",
    "enum": lambda _: "NoSuchValue",
    "minimum": lambda s: s["minimum"] if s.get("exclusiveMinimum") else s["minimum"] - 1,
    "maximum": lambda s: s["maximum"] if s.get("exclusiveMaximum") else s["maximum"] + 1,
}


def bound_cases(spec_schema: dict[str, Any]) -> Iterator[BoundCase]:
    """A case for every bound on a leaf of the spec, made from the full manifest and the schema itself."""
    base = full()
    for path, schema, value in _leaves(spec_schema, base["spec"], "spec"):
        if schema.get("x-kubernetes-int-or-string"):
            yield BoundCase(path, "pattern", changed(base, path, "not a quantity"))
            yield BoundCase(path, "minimum", changed(base, path, -1))
            continue
        for bound, broken in _BROKEN.items():
            if bound in schema:
                yield BoundCase(path, bound, changed(base, path, broken(schema)))
        if isinstance(value, list):
            if "maxItems" in schema:
                copies = [_renamed(value[0], i) for i in range(schema["maxItems"] + 1)]
                yield BoundCase(path, "maxItems", changed(base, path, copies))
            if "minItems" in schema:
                yield BoundCase(path, "minItems", changed(base, path, []))
            if schema["x-kubernetes-list-type"] == "map":
                yield BoundCase(path, "keys", changed(base, path, [value[0], value[0]]))


def _renamed(item: Any, index: int) -> Any:
    return {**item, "name": f"n{index}"} if isinstance(item, dict) and "name" in item else item


def _leaves(schema: dict[str, Any], value: Any, path: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    if schema.get("type") == "object" and "properties" in schema:
        for name, child in schema["properties"].items():
            if isinstance(value, dict) and name in value:
                yield from _leaves(child, value[name], f"{path}.{name}")
    elif schema.get("type") == "object":
        for name in value:
            if "." not in name:
                yield from _leaves(schema["additionalProperties"], value[name], f"{path}.{name}")
    elif schema.get("type") == "array":
        yield path, schema, value
        yield from _leaves(schema["items"], value[0], f"{path}.0")
    else:
        yield path, schema, value
