"""Base of all contract models: camelCase on the wire, immutable in memory, rules written once.

A :class:`Rule` holds both forms of one constraint: the CEL expression that the Kubernetes API server
checks and the Python predicate that an embedded run checks. The CRD generator reads the first, the model
validator runs the second, so the two cannot drift apart unseen (a test sends both the same manifests).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

__all__ = [
    "ArtifactUri",
    "Digest",
    "DnsLabel",
    "Fraction",
    "ListType",
    "Message",
    "ModelUri",
    "Rule",
    "SourceUri",
    "SpecModel",
    "StatusModel",
    "TransitionRule",
    "UnitInterval",
    "field_path",
    "list_of",
    "map_list_of",
    "section",
]


@dataclass(frozen=True)
class Rule:
    """One constraint on a model: ``cel`` for the API server, ``holds`` for Python, one sentence for both."""

    cel: str
    message: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class TransitionRule:
    """One constraint on a change: ``cel`` sees ``self`` and ``oldSelf``; ``holds`` gets (new, old).

    optional_old: evaluate on creation too; ``oldSelf`` is then a CEL optional and ``old`` may be None.
    """

    cel: str
    message: str
    holds: Callable[[Any, Any], bool]
    optional_old: bool = False


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
        use_enum_values=False,
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()
    TRANSITIONS: ClassVar[tuple[TransitionRule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.RULES:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON-able dict with camelCase keys; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SpecModel(_Model):
    """A model that a person writes: an unknown field is an error, because it is usually a typing mistake."""

    model_config = ConfigDict(extra="forbid")


class StatusModel(_Model):
    """A model that programs write: unknown fields are ignored, because a newer version may have written them."""

    model_config = ConfigDict(extra="ignore")


class ListType:
    """Values of ``x-kubernetes-list-type``: how server-side apply merges a list."""

    ATOMIC: ClassVar[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}

    @staticmethod
    def by(*keys: str) -> dict[str, Any]:
        """A list whose items are told apart by these fields."""
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def field_path(location: Iterable[str | int]) -> str:
    """``spec.gate.criteria[0].metric``, from the location of a validation error."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def list_of(description: str, *, maximum: int, minimum: int = 0) -> Any:
    """A bounded list replaced as a whole (``x-kubernetes-list-type: atomic``), empty by default."""
    default: dict[str, Any] = {} if minimum else {"default_factory": tuple}
    return Field(
        description=description,
        min_length=minimum or None,
        max_length=maximum,
        json_schema_extra=dict(ListType.ATOMIC),
        **default,
    )


def map_list_of(description: str, *keys: str, maximum: int) -> Any:
    """A bounded list merged by ``keys`` (``x-kubernetes-list-type: map``), empty by default; no two items share them."""
    field: Any = Field(
        description=description,
        default_factory=tuple,
        max_length=maximum,
        json_schema_extra=ListType.by(*keys),
    )
    field.metadata.append(AfterValidator(partial(_told_apart, keys)))
    return field


def _told_apart(keys: tuple[str, ...], items: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the API server makes of the list's type; an embedded run has only this."""
    seen = set()
    for item in items:
        key = tuple(str(getattr(item, name)) for name in keys)
        if key in seen:
            named = " and the ".join(f"{name} {value!r}" for name, value in zip(keys, key, strict=True))
            raise ValueError(f"more than one item has the {named}: items of this list are told apart by it")
        seen.add(key)
    return items


def section(model: type[_Model], description: str) -> Any:
    """A section that may be left out. Its default is made once and shared: nobody may change a dict in it."""
    return Field(default_factory=cache(model), description=description)


_URI_TAIL = r"://[^\s]+$"
ModelUri = Annotated[str, StringConstraints(max_length=1024, pattern=r"^(s3|file|hf|pvc)" + _URI_TAIL)]
"""s3://bucket/folder/ · file:///folder · hf://org/name@revision · pvc://claim/folder, or an alias below them."""
SourceUri = Annotated[str, StringConstraints(max_length=1024, pattern=r"^(s3|file|pvc)" + _URI_TAIL)]
"""An object or a glob of objects."""
ArtifactUri = Annotated[str, StringConstraints(max_length=1024, pattern=r"^(s3|file|pvc)" + _URI_TAIL)]
"""A folder that can be written."""
DnsLabel = Annotated[str, StringConstraints(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Digest = Annotated[str, StringConstraints(max_length=80, pattern=r"^sha256:[0-9a-f]{64}$")]
Message = Annotated[str, StringConstraints(max_length=2048)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
UnitInterval = Annotated[float, Field(gt=0.0, lt=1.0)]
