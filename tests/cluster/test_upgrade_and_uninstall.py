"""Helm's life with the chart: an upgrade that changes the resource definition, and an uninstall that keeps or deletes it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.cluster import binaries, chart, shell
from tools.cluster.prepare import Prepared

from support.cluster import Team, condition, reason
from support.training import LONG, until_checkpoint

CRD = "alignmentruns.alignment.dev"
pytestmark = pytest.mark.alone


@pytest.fixture
def restored(prepared: Prepared) -> Iterator[None]:
    """Whatever was uninstalled is there again afterwards, as it was."""
    yield
    chart.install(prepared.commands(), prepared.values())


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The chart of a later version, whose resource definition has one more field."""
    folder = tmp_path / "alignment-operator"
    shutil.copytree(chart.CHART, folder)
    (file,) = (folder / "files" / "crds").glob("*.yaml")
    text = file.read_text(encoding="utf-8")
    place = "              suspend:\n"
    assert text.count(place) == 1
    field = "              newField:\n                type: string\n                maxLength: 10\n"
    file.write_text(text.replace(place, field + place), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("restored")
def test_an_upgrade_brings_the_new_definition_while_a_run_goes_on(
    notes: Team, prepared: Prepared, newer: Path
) -> None:
    notes.apply(training=LONG)
    until_checkpoint(notes)
    assert "newField" not in definition(notes)
    chart.install(notes.kubectl, prepared.values() | {"operator": {"workers": 8}}, chart=newer)
    assert "newField" in definition(notes)

    # The definition is a version ahead of the operator: what only it knows is told, and not skipped.
    ahead = notes.manifest("ahead")
    ahead["spec"]["newField"] = "new"
    notes.kubectl.apply(ahead)
    told = notes.until("it cannot be read", lambda s: reason(s) == "Unreadable", "ahead", 60)
    assert "spec.newField" in condition(told, "Succeeded")["message"]
    assert not [name for name in notes.jobs() if name.startswith("ahead")]

    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert len(notes.jobs()) == 4


@pytest.mark.usefixtures("restored")
def test_an_uninstall_keeps_runs_and_their_jobs_and_a_new_install_goes_on_with_them(
    notes: Team, prepared: Prepared
) -> None:
    notes.apply(training=LONG)
    until_checkpoint(notes)
    chart.uninstall(notes.kubectl)
    assert "notes-train-1" in notes.jobs()
    assert condition(notes.status(), "DataReady")["status"] == "True"
    chart.install(notes.kubectl, prepared.values())
    status = notes.until_ended()
    assert reason(status) == "Published", notes.story()
    assert len(notes.jobs()) == 4


@pytest.mark.usefixtures("restored")
def test_an_uninstall_that_is_told_to_delete_definitions_deletes_them_and_every_run(
    notes: Team, prepared: Prepared
) -> None:
    manifest = notes.manifest()
    manifest["spec"]["suspend"] = True
    notes.kubectl.apply(manifest)
    chart.install(notes.kubectl, prepared.values() | {"crds": {"keep": False}})
    chart.uninstall(notes.kubectl)
    shell.wait_until(
        "the definition is gone", 60, lambda: CRD not in notes.kubectl("get", "crds", "-o", "name")
    )

    # An empty cluster again: what Helm 4 has done so far, Helm 3 must do as well.
    helm3 = dataclasses.replace(notes.kubectl, helm_program=binaries.find("helm3"))
    chart.install(helm3, prepared.values() | {"crds": {"keep": False}})
    notes.apply("again")
    assert reason(notes.until_ended("again")) == "Published", notes.story("again")
    chart.uninstall(helm3)


def definition(notes: Team) -> str:
    return json.dumps(notes.kubectl.get("crd", CRD))
