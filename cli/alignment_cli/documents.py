"""YAML documents as the API server would read them.

PyYAML keeps the last of two equal keys, takes ``1e-4`` for a word and a day for a date; a person who meant something
else would never learn of it. Here two equal keys are an error, ``1e-4`` is a number, and dates stay text.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError

__all__ = ["read_documents"]

_FLOAT: Final = "tag:yaml.org,2002:float"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  as the base class has it
        first: [entry for entry in entries if entry[0] != _TIMESTAMP]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(
                    "while reading a section",
                    node.start_mark,
                    f"found {key.value!r} a second time",
                    key.start_mark,
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


def read_documents(text: str) -> list[Any]:
    """The documents of a YAML or JSON text, empty ones left out. Raises yaml.YAMLError with line and column."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
