"""Writes the CustomResourceDefinitions: ``python -m tools.crdgen [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from alignment_api.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from alignment_api.run import AlignmentRun
from tools.crdgen.schema import structural_schema
from tools.generated import main

__all__ = ["crd", "render"]

TARGET = Path(__file__).parents[2] / "crds" / f"{PLURAL}.{GROUP}.yaml"
_SUCCEEDED = '.status.conditions[?(@.type=="Succeeded")]'
COLUMNS = [
    {"name": "Stage", "type": "string", "jsonPath": f"{_SUCCEEDED}.reason"},
    {"name": "Verdict", "type": "string", "jsonPath": ".status.verdict.result"},
    {"name": "Headline", "type": "string", "jsonPath": ".status.headline"},
    {"name": "Pairs", "type": "integer", "jsonPath": ".status.data.pairs"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Model", "type": "string", "jsonPath": ".spec.model.uri", "priority": 1},
    {"name": "Published", "type": "string", "jsonPath": ".status.published.version", "priority": 1},
]


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of AlignmentRun."""
    schema = structural_schema(AlignmentRun)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": f"Always {API_VERSION}."}
    properties["kind"] = {"type": "string", "description": f"Always {KIND}."}
    properties["metadata"] = {"type": "object"}  # the API server has its own schema for it
    properties["status"].pop("default", None)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["arun"],
                "categories": ["alignment"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": COLUMNS,
                    "schema": {"openAPIV3Schema": schema | {"required": ["spec"]}},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Kubernetes reads YAML 1.1, where a bare n is the boolean false; PyYAML does not quote it."""
    style = "'" if text in {"y", "Y", "n", "N"} else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


def render() -> str:
    """The file's text."""
    body = yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"# Generated from api/alignment_api by `make crds`. Do not edit.\n{body}"


if __name__ == "__main__":
    sys.exit(main({TARGET: render}, "make crds", sys.argv[1:]))
