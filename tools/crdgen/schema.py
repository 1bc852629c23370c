"""Turns a pydantic model into a structural schema as Kubernetes wants it.

Structural means: no ``$ref``, no ``title``, no ``const``, no ``null``; every list says how it is merged; CEL
rules sit on the object they speak of. What pydantic cannot say in its JSON schema (rules) is read from the
model classes themselves.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel

__all__ = ["structural_schema"]

# propertyNames has no place in a structural schema: the API server refuses it when it is applied server-side.
_DROPPED = {"title", "additionalProperties", "$defs", "discriminator", "format", "propertyNames"}


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Structural schema of a model, defaults and descriptions included."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _object(raw, model, raw.get("$defs", {}))


def _object(node: dict[str, Any], model: type[BaseModel], defs: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for name, field in model.model_fields.items():
        wire_name = field.alias or name
        if wire_name in node.get("properties", {}):
            properties[wire_name] = _property(node["properties"][wire_name], field, defs)
    out: dict[str, Any] = {"type": "object"}
    if node.get("description"):
        out["description"] = " ".join(node["description"].split())
    if required := [name for name in node.get("required", []) if name in properties]:
        out["required"] = required
    out["properties"] = properties
    if rules := _rules(model):
        out["x-kubernetes-validations"] = rules
    return out


def _rules(model: type[BaseModel]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [{"rule": r.cel, "message": r.message} for r in getattr(model, "RULES", ())]
    for transition in getattr(model, "TRANSITIONS", ()):
        rule: dict[str, Any] = {"rule": transition.cel, "message": transition.message}
        if transition.optional_old:
            rule["optionalOldSelf"] = True
        rules.append(rule)
    return rules


def _property(node: dict[str, Any], field: Any, defs: dict[str, Any]) -> dict[str, Any]:
    out = _node(node, field.annotation, defs)
    if field.description:
        out["description"] = field.description
    if not field.is_required():
        default = field.get_default(call_default_factory=True)
        wire = _default(default)
        if wire is not None:
            out["default"] = wire
    return out


def _default(value: Any) -> Any:
    """Nested objects are written out in full: rules are checked against a default as it stands in the schema,
    before the API server fills in the defaults of its fields.
    """
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        wire = {field.alias or name: _default(getattr(value, name)) for name, field in fields}
        return {name: item for name, item in wire.items() if item is not None}
    if isinstance(value, tuple | list | dict):
        return None  # an absent list or map already means an empty one
    return getattr(value, "value", value)


def _node(node: dict[str, Any], annotation: Any, defs: dict[str, Any]) -> dict[str, Any]:
    annotation = _plain(annotation)
    node = _without_null(node)
    if "$ref" in node:
        target = dict(defs[node["$ref"].rsplit("/", 1)[-1]])
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _object(node, annotation, defs)
    if node.get("x-kubernetes-int-or-string"):
        return {key: value for key, value in node.items() if key not in _DROPPED}
    out = {
        key: value for key, value in node.items() if key not in _DROPPED and key not in {"items", "default"}
    }
    if node.get("type") == "array":
        out["items"] = _node(node.get("items") or node["prefixItems"][0], _argument(annotation, 0), defs)
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _node(node["additionalProperties"], _argument(annotation, 1), defs)
    if node.get("format") == "date-time":
        out["format"] = "date-time"
    if "enum" in out:
        out.pop("description", None)
    return _integers_are_int64(_inclusive(out))


def _plain(annotation: Any) -> Any:
    """The annotation without ``| None`` and ``Annotated``."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _argument(annotation: Any, index: int) -> Any:
    arguments = typing.get_args(annotation)
    return _plain(arguments[index]) if len(arguments) > index else annotation


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """``X | None`` is an optional X: the API server has absence, not null."""
    if "anyOf" not in node or node.get("x-kubernetes-int-or-string"):
        return node
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) != 1:
        raise ValueError(f"a union of {len(options)} types has no structural schema: {node}")
    return {**options[0], **{k: v for k, v in node.items() if k not in {"anyOf", "default"}}}


def _inclusive(node: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0 writes exclusive bounds as a number and a flag."""
    for new, old in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(node.get(new), int | float) and not isinstance(node.get(new), bool):
            node[old] = node[new]
            node[new] = True
    return node


def _integers_are_int64(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("type") == "integer":
        node["format"] = "int64"
    return node
