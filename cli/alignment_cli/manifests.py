"""Reads a run from a YAML file, with errors that name the file and the field."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignment_api.names import KIND
from alignment_api.run import AlignmentRun
from alignment_cli.errors import CommandError

__all__ = ["load_manifest", "new_manifest"]

_MAXIMUM_ERRORS = 5


def load_manifest(path: Path) -> AlignmentRun:
    """The AlignmentRun in a YAML or JSON file (``-``: standard input), beside which other kinds may stand.

    Raises CommandError naming every wrong field.
    """
    import yaml

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read ({error}); give a readable YAML file.") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is not YAML: {error}") from None
    runs = [found for found in documents if isinstance(found, dict) and found.get("kind", KIND) == KIND]
    if len(runs) != 1:
        raise CommandError(f"{path} holds {len(runs)} AlignmentRuns; exactly one is needed.")
    return parse_manifest(runs[0], str(path))


def parse_manifest(document: dict[str, Any], source: str) -> AlignmentRun:
    """A parsed manifest as a run. Raises CommandError naming the source and every wrong field."""
    try:
        return AlignmentRun.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        lines = [
            f"  {'.'.join(str(part) for part in p['loc']) or 'manifest'}: {_words(p)}"
            for p in problems[:_MAXIMUM_ERRORS]
        ]
        if len(problems) > _MAXIMUM_ERRORS:
            lines.append(f"  and {len(problems) - _MAXIMUM_ERRORS} more")
        raise CommandError(f"{source} is not a valid AlignmentRun:\n" + "\n".join(lines)) from None


def new_manifest(run: AlignmentRun, name: str) -> dict[str, Any]:
    """A fresh manifest from an old run: same spec, new name, nothing of its life, no decision."""
    spec = run.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    spec.get("gate", {}).pop("decision", None)
    spec.pop("suspend", None)
    metadata: dict[str, Any] = {"name": name}
    if run.metadata.namespace != "default":
        metadata["namespace"] = run.metadata.namespace
    return {"apiVersion": run.api_version, "kind": run.kind, "metadata": metadata, "spec": spec}


def _words(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown field; see docs/reference.md for the fields there are"
    return str(problem["msg"]).removeprefix("Value error, ")
