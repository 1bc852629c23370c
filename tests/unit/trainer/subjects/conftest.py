"""What trace and erase are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.erasing import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
