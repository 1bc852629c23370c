"""The resource reference, from the CRD: one table a section, every field with type, default, bounds and sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.crdgen.__main__ import crd

__all__ = ["page"]

_INTRO = """# Resource reference

Every field of `AlignmentRun` (`alignment.dev/v1alpha1`, short name `arun`), from the CustomResourceDefinition.
`kubectl explain alignmentruns.spec.training` shows the same sentences on a cluster.

A field in **bold** is required. `[]` marks the items of a list, `<key>` the keys of a map. A field without a default is
off, empty, or worked out by the stage that reads it, as its sentence says. An unknown field is refused.

The spec is immutable, except `gate.decision`, `suspend` and `ttlSecondsAfterFinished`: clone a run to change it
(`align clone`).
"""


def page() -> str:
    """The whole page as Markdown."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    parts = [_INTRO, "## spec\n"]
    parts += _table(schema["spec"], "", only_leaves=True)
    # What a section's own rules say stands there; transitions are the intro's last sentence.
    own = schema["spec"]["x-kubernetes-validations"]
    parts += _listed([("", rule["message"]) for rule in own if "oldSelf" not in rule["rule"]])
    for name, child in schema["spec"]["properties"].items():
        if child.get("properties"):
            parts += _section(name, child, "spec")
    parts.append(
        "## status\n\nWritten by programs only. Conditions are the truth; everything else explains them.\n"
    )
    parts += _table(schema["status"], "", only_leaves=True)
    for name, child in schema["status"]["properties"].items():
        if child.get("properties") or child.get("items", {}).get("properties"):
            parts += _section(name, child, "status")
    return "\n".join(parts).rstrip() + "\n"


def _section(name: str, node: dict[str, Any], parent: str) -> list[str]:
    is_list = "items" in node
    parts = [f"### {parent}.{name}{'[]' if is_list else ''}\n", f"{node['description']}\n"]
    inner = node["items"] if is_list else node
    parts += _table(inner, "", only_leaves=False)
    return parts + _listed(list(_rules(inner, "")))


def _listed(rules: list[tuple[str, str]]) -> list[str]:
    if not rules:
        return []
    lines = [f"- {f'`{path}`: ' if path else ''}{message}" for path, message in rules]
    return ["Rules the API server checks:\n", *lines, ""]


def _table(node: dict[str, Any], prefix: str, *, only_leaves: bool) -> list[str]:
    rows = [
        row
        for row in _rows(node, prefix)
        if not only_leaves or not {".", "["} & set(row[0].strip("*`").replace("[]", ""))
    ]
    if only_leaves:
        rows = [row for row in rows if not row[1].endswith("object")]
    if not rows:
        return []
    lines = ["| field | type | default | what it is |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, ""]


def _rows(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    required = set(node.get("required", []))
    for name, child in node.get("properties", {}).items():
        path = f"{prefix}{name}"
        shown = f"**`{path}`**" if name in required else f"`{path}`"
        sentence = child.get("description", "").replace("*", "\\*")
        yield shown, _type(child), _default(child), sentence
        for inner, mark in _inner(child):
            yield from _rows(inner, f"{path}{mark}.")


def _inner(node: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    if node.get("properties"):
        yield node, ""
    elif node.get("items", {}).get("properties"):
        yield node["items"], "[]"
    elif isinstance(node.get("additionalProperties"), dict) and node["additionalProperties"].get(
        "properties"
    ):
        yield node["additionalProperties"], ".<key>"


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in node:
        return " · ".join(f"`{value}`" for value in node["enum"])
    if "additionalProperties" in node:
        return f"map to {_type(node['additionalProperties'])}"
    kind = str(node.get("type", ""))
    if kind == "array":
        low = f"{node['minItems']} to" if node.get("minItems") else "at most"
        return f"list, {low} {node['maxItems']}, of {_type(node['items'])}"
    return "time" if node.get("format") == "date-time" else kind + _bounds(node)


def _bounds(node: dict[str, Any]) -> str:
    if "maxLength" in node:
        return f", at most {node['maxLength']}"
    low, high = node.get("minimum"), node.get("maximum")
    if low is None and high is None:
        return ""
    low_text = "" if low is None else f"{'above ' if node.get('exclusiveMinimum') else ''}{_number(low)}"
    high_text = "" if high is None else f"{'below ' if node.get('exclusiveMaximum') else ''}{_number(high)}"
    if low is None or high is None:
        return f", at least {low_text}" if high is None else f", at most {high_text}"
    return f", {low_text} to {high_text}"


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if float(value).is_integer() else f"{value:g}"


def _default(node: dict[str, Any]) -> str:
    default = node.get("default")
    if default is None or default == {}:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default == "":
        return '`""`'
    return f"`{default}`"


def _rules(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in node.get("x-kubernetes-validations", []):
        yield path, rule["message"]
    for name, child in node.get("properties", {}).items():
        inner = child.get("items", child) if child.get("type") == "array" else child
        mark = "[]" if child.get("type") == "array" else ""
        yield from _rules(inner, f"{path}.{name}{mark}" if path else f"{name}{mark}")
