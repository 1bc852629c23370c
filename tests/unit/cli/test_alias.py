"""``align alias show|set`` as a person types it: where an alias points, and back to an earlier version."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alignment_trainer.models.aliases import set_alias
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores
from support.models import full_weights

stores = Stores()


@pytest.fixture
def publish(tmp_path: Path) -> str:
    """Two versions, of which the alias names the second; returns the publish URI."""
    uri = (tmp_path / "models").as_uri() + "/"
    for version in ("v1", "v2"):
        full_weights(tmp_path / "work" / version, content=version.encode())
        upload_folder(tmp_path / "work" / version, f"{uri}versions/{version}/", stores(uri))
        set_alias(uri, "champion", version, stores(uri), now=datetime(2026, 1, 2, tzinfo=UTC))
    return uri


def align(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alignment_cli.main", "alias", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_alias_is_shown_rolled_back_and_remembers_from_where(publish: str) -> None:
    shown = align("show", publish).stdout
    assert f"{publish}aliases/champion → v2" in shown
    assert "before: v1" in shown
    assert "versions: v1, v2" in shown
    assert "champion: v2 → v1" in align("set", publish, "v1").stdout
    alias = json.loads(align("show", publish, "-o", "json").stdout)["alias"]
    assert (alias["target"]["version"], alias["previous"]["version"]) == ("v1", "v2")
    assert alias["movedBy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["v9"], "versions/v9/ is not a published version; published are (last five): v1, v2."),
        (["v1", "--alias", "No Such"], "alias"),
        (["../v1"], ""),
    ],
    ids=["a version that is not there", "a name that no alias has", "a path"],
)
def test_what_cannot_be_pointed_to_is_refused_and_moves_nothing(
    publish: str, arguments: list[str], said: str
) -> None:
    done = align("set", publish, *arguments)
    assert done.returncode == 64
    assert said in done.stderr
    assert "→ v2" in align("show", publish).stdout


def test_an_alias_that_nobody_has_set_is_no_error(publish: str) -> None:
    done = align("show", publish, "--alias", "canary")
    assert done.returncode == 0
    assert f"{publish}aliases/canary does not exist yet." in done.stdout
    assert "canary: nothing → v1" in align("set", publish, "v1", "--alias", "canary").stdout
