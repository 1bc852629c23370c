"""Fixtures that several files of whole runs and verbs use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.apihttp import serving_api
from support.person import Person
from support.personapi import PersonApi


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody with kubectl, whose cluster has the namespace ``team``."""
    server = PersonApi()
    team = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "namespace": ""}}
    server.create("namespaces", team)
    with serving_api(server, tmp_path) as api:
        yield Person(api, server, tmp_path)
