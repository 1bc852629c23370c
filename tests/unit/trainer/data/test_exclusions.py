"""The file of exclusions: nobody's line is lost, and no line that a run could not read is ever added."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment_trainer.data.exclusions import EXCLUSIONS, add_exclusions, read_exclusions
from alignment_trainer.data.split import Side
from alignment_trainer.errors import RequestError
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import Condition, ConditionFailed, ObjectInfo
from support.preparing import pair, prepared

stores = Stores()


def test_two_who_add_exclusions_at_once_lose_none(tmp_path: Path) -> None:
    uri = (tmp_path / EXCLUSIONS).as_uri()

    class Racing(LocalStore):
        """Somebody else writes between our look and our write, once."""

        raced = False

        def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
            if not self.raced:
                self.raced = True
                add_exclusions(uri, [{"actor": "other"}], LocalStore())
                with pytest.raises(ConditionFailed):
                    super().put(uri, data, condition=condition)
                raise ConditionFailed(uri)
            return super().put(uri, data, condition=condition)

    add_exclusions(uri, [{"actor": "first"}], LocalStore())
    add_exclusions(uri, [{"actor": "mine"}, {"actor": "first"}], Racing())
    assert read_exclusions([uri], stores).actors == {"first", "other", "mine"}


def test_a_file_of_exclusions_without_a_last_line_end_is_not_glued(tmp_path: Path) -> None:
    uri = (tmp_path / EXCLUSIONS).as_uri()
    (tmp_path / EXCLUSIONS).write_text('{"id": "a"}', encoding="utf-8")
    add_exclusions(uri, [{"id": "b"}], stores(uri))
    assert read_exclusions([uri], stores).ids == {"a", "b"}


@pytest.mark.parametrize("row", [{"id": ""}, {"actor": " ", "id": "a"}, {"group": "x" * 513}, {}])
def test_a_line_that_would_end_every_run_is_not_added(row: dict[str, str], tmp_path: Path) -> None:
    uri = (tmp_path / EXCLUSIONS).as_uri()
    with pytest.raises(RequestError, match="nothing was added"):
        add_exclusions(uri, [{"id": "good"}, row], stores(uri))
    assert not (tmp_path / EXCLUSIONS).exists()


def test_a_name_that_two_systems_write_in_two_ways_is_one(tmp_path: Path) -> None:
    composed, decomposed = "Jos\u00e9 M\u00fcller", " Jose\u0301 Mu\u0308ller "
    rows = [pair(n, group=composed if n % 2 else decomposed) for n in range(20)] + [pair(99, group="other")]
    for salt in "abcdefgh":
        sides = prepared(tmp_path / salt, rows, holdout={"fraction": 0.5, "salt": salt}).found.sides
        assert min(sum("Jos" in p.group for p in sides.pairs(side)) for side in Side) == 0
    excluded = tmp_path / "names.jsonl"
    excluded.write_text(json.dumps({"group": decomposed}), encoding="utf-8")
    found = prepared(tmp_path / "x", rows, exclusions=[{"uri": excluded.as_uri()}])
    assert (found.funnel.excluded, found.funnel.pairs) == (20, 1)
