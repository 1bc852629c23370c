"""Reads a run from a YAML file, with errors that name the file and the field."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from alignment_api.base import field_path
from alignment_api.names import KIND
from alignment_api.run import AlignmentRun
from alignment_cli.errors import CommandError

__all__ = ["invalid", "load_manifest", "new_manifest", "parse_manifest"]

_MAXIMUM_ERRORS = 5
_PATTERNS = {
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$": "must be lower-case letters, digits and hyphens, beginning with a letter",
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": "must be lower-case letters, digits, hyphens and dots",
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$": "must be lower-case letters, digits, hyphens "
    "and dots",
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$": "must be the value of a label: letters, digits, '-', '_' and '.'",
    r"^https?://[^\s]+$": "must be a URL: http://host:port or https://host",
}
"""What the patterns of names and addresses mean, for people."""


def load_manifest(path: Path) -> AlignmentRun:
    """The AlignmentRun in a YAML or JSON file (``-``: standard input), beside which other kinds may stand.

    Raises CommandError naming every wrong field.
    """
    import yaml

    from alignment_cli.documents import read_documents

    try:
        documents = read_documents(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror}); give a readable YAML file.") from None
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not text ({error.reason}); give a YAML file in UTF-8.") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is not YAML: {error}") from None
    runs = [found for found in documents if isinstance(found, dict) and found.get("kind", KIND) == KIND]
    if len(runs) != 1:
        kinds = ", ".join(
            str(found.get("kind")) if isinstance(found, dict) else "no mapping" for found in documents
        )
        raise CommandError(
            f"{path} holds {len(runs)} AlignmentRuns ({kinds or 'it is empty'}); exactly one is needed."
        )
    return parse_manifest(runs[0], str(path))


def parse_manifest(document: dict[str, Any], source: str) -> AlignmentRun:
    """A parsed manifest as a run, with types as strict as the API server's: "8" is no number, true is not 1.

    Raises CommandError naming the source and every wrong field.
    """
    try:
        return AlignmentRun.model_validate_json(
            json.dumps(document, default=str), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise invalid(f"{source} is not a valid AlignmentRun", error) from None


def invalid(what: str, error: ValidationError) -> CommandError:
    """The error for a person: ``what`` and, line by line, each wrong field, what is wrong with it and the remedy."""
    problems = error.errors(include_url=False, include_input=False)
    lines = [f"  {field_path(p['loc']) or 'manifest'}: {_words(p)}" for p in problems[:_MAXIMUM_ERRORS]]
    if len(problems) > _MAXIMUM_ERRORS:
        lines.append(f"  and {len(problems) - _MAXIMUM_ERRORS} more")
    return CommandError(f"{what}:\n" + "\n".join(lines))


def new_manifest(run: AlignmentRun, name: str) -> dict[str, Any]:
    """A fresh manifest from an old run: same spec, new name, nothing of its life, no decision.

    Raises CommandError for a name that no run may have.
    """
    spec = run.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    spec.get("gate", {}).pop("decision", None)
    spec.pop("suspend", None)
    metadata: dict[str, Any] = {"name": name}
    if run.metadata.namespace != "default":
        metadata["namespace"] = run.metadata.namespace
    document = {"apiVersion": run.api_version, "kind": run.kind, "metadata": metadata, "spec": spec}
    parse_manifest(document, f"A clone named {name!r}")
    return document


def _words(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        *parents, field = problem["loc"]
        near = get_close_matches(str(field), _fields_at(AlignmentRun, parents), n=1)
        return f"unknown field; {f'did you mean {near[0]}?' if near else 'docs/reference.md lists those there are'}"
    if problem["type"] == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        return _PATTERNS.get(pattern) or _scheme_words(pattern) or f"must match the pattern {pattern}"
    return str(problem["msg"]).removeprefix("Value error, ")


def _fields_at(model: type[BaseModel], parents: Iterable[str | int]) -> list[str]:
    """Names in a manifest of the fields that may stand at a place; none where the place is unknown."""
    for name in parents:
        if isinstance(name, int):
            continue
        fields = {field.alias or python: field for python, field in model.model_fields.items()}
        inner = _model_in(fields[name].annotation) if name in fields else None
        if inner is None:
            return []
        model = inner
    return [field.alias or python for python, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, also as one of several, or optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _scheme_words(pattern: str) -> str | None:
    schemes = re.match(r"\^\(([a-z0-9|]+)\)://", pattern)
    if schemes is None:
        return None
    known = [f"{scheme}://" for scheme in schemes[1].split("|")]
    return f"must be a URI that begins with {', '.join(known[:-1])} or {known[-1]}, without blanks (%20)"
