"""The dashboards as files: up to date, every panel with a unit and a description, no label without bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tools.dashboards.__main__ import DASHBOARDS, FOLDER, render

from alignment_operator.series import SERIES
from alignment_trainer.runtime.live import STAGE_SERIES
from support.documents import ROOT

Json = dict[str, Any]
UNBOUNDED = {"name", "pod"}
"""Labels whose values grow with the runs; allowed where the query itself is bounded."""
SHORT = {"1h", "6h"}
"""A panel's own time in which few runs come and go."""
BOUNDED_BY = ("topk(", "alignment_target_newest_info", "alignment_target_champion_info")


def panels() -> Iterator[tuple[str, Json]]:
    for name, build in DASHBOARDS.items():
        for panel in build()["panels"]:
            if panel["type"] != "row":
                yield f"{name}: {panel['title']}", panel


PANELS = list(panels())


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_committed_file_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == render(name), "run `make dashboards`"


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[name for name, _ in PANELS])
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: Json) -> None:
    assert len(panel["description"]) > 10
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[name for name, _ in PANELS])
def test_a_panel_has_no_label_that_grows_with_the_runs(panel: Json) -> None:
    for target in panel["targets"]:
        query = target["expr"]
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query))))
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        if (grouped | shown) & UNBOUNDED:
            assert any(mark in query for mark in BOUNDED_BY), query
        if "topk(" in query and target["range"]:
            assert panel.get("timeFrom") in SHORT, f"{query}: the top of each moment, many over a long time"
        per_run = [s.name for s in SERIES if s.per_run and s.name in query]
        assert not per_run or "topk(" in query, f"{query}: one line a run; bound it"


def test_the_grid_has_no_overlaps() -> None:
    for name, build in DASHBOARDS.items():
        taken: dict[tuple[int, int], str] = {}
        for panel in build()["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert (x, y) not in taken, f"{name}: {panel['title']} lies on {taken[x, y]}"
                    taken[x, y] = panel["title"]


def test_queries_read_only_what_is_exported_because_the_rules_need_not_be_there() -> None:
    exported = {series.name for series in SERIES} | set(STAGE_SERIES)
    for name, panel in PANELS:
        for target in panel["targets"]:
            read = set(re.findall(r"\balignment[_:][\w:]+", target["expr"]))
            assert {re.sub(r"_(bucket|gsum|gcount)$", "", word) for word in read} <= exported, name


def test_runs_and_pods_are_those_of_the_chosen_namespaces() -> None:
    for name, panel in PANELS:
        for target in panel["targets"]:
            if re.search(r"\{\{(name|pod)\}\}", target["legendFormat"]):
                assert 'namespace=~"$namespace"' in target["expr"], name


def test_panels_that_the_documentation_names_are_there() -> None:
    named = set(
        re.findall(
            r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
        )
    )
    assert named
    assert named <= {panel["title"] for _, panel in PANELS}


def test_grafana_can_read_the_files() -> None:
    for name in DASHBOARDS:
        loaded = json.loads((FOLDER / name).read_text(encoding="utf-8"))
        assert loaded["uid"]
        assert len(loaded["uid"]) <= 40
        assert {panel["id"] for panel in loaded["panels"]} == set(range(1, len(loaded["panels"]) + 1))
