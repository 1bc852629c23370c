"""Trace: every stored pair of a subject is found, and every model that learned from it is named or said to be unknown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alignment_trainer.data.exclusions import EXCLUSIONS, add_exclusions
from alignment_trainer.data.snapshot import read_split, write_split
from alignment_trainer.data.split import Side
from alignment_trainer.errors import RequestError
from alignment_trainer.subjects.erase import erase
from alignment_trainer.subjects.subject import Kind, Subject
from alignment_trainer.subjects.trace import RunTrace, trace
from support.erasing import World, of, stores


@pytest.mark.parametrize(
    ("name", "pairs", "matched"),
    [
        ("link1", 1, ("id",)),
        ("link2", 1, ("id",)),
        ("no", 1, ("id",)),
        ("family", 1, ("group",)),
        ("bob", 1, ("actor",)),
        ("eve", 1, ("actor",)),
        ("ann", 3, ("actor",)),
        ("nobody", 0, ()),
    ],
)
def test_a_subject_is_found_as_id_group_or_any_actor_of_a_pair(
    world: World, name: str, pairs: int, matched: tuple[str, ...]
) -> None:
    world.run(1)
    found = trace(world.artifacts, of(name), stores)
    sightings = [pair for run in found.runs for pair in run.pairs]
    assert len(sightings) == pairs
    assert {m for s in sightings for m in s.matched} == set(matched)
    assert all(s.source == world.source and s.line > 60 for s in sightings)
    assert found.searched == 1


def test_a_pair_is_found_by_its_own_id_and_by_its_kind_only(world: World) -> None:
    work = world.run(1)
    first = world.pairs(work)[Side.TRAIN][0]
    assert trace(world.artifacts, of(first.pair_id), stores).runs[0].pairs[0].pair_id == first.pair_id
    assert trace(world.artifacts, of("family", Kind.ACTOR, Kind.ID), stores).runs == ()


def test_a_version_learned_from_a_subject_only_if_it_was_on_the_train_side(world: World) -> None:
    work = world.run(1)
    sides = world.pairs(work)
    for side, learned in ((Side.TRAIN, True), (Side.HOLDOUT, False)):
        found = trace(world.artifacts, of(sides[side][0].event_ids[0]), stores)
        (run,) = found.runs
        assert {s.side for s in run.pairs} == {side}
        assert run.affected is learned
        assert bool(found.affected_versions) is learned


def test_what_goes_on_from_an_affected_version_is_affected_too(world: World) -> None:
    first = world.run(1)
    name = world.pairs(first)[Side.TRAIN][0].event_ids[0]
    version = trace(world.artifacts, of(name), stores).runs[0].published
    assert version is not None
    exclusion = world.artifacts.rstrip("/") + f"/{EXCLUSIONS}"
    add_exclusions(exclusion, [{"id": name}], stores(exclusion))
    world.run(2, model=version)
    second = trace(world.artifacts, of(name), stores).runs[1]
    assert (second.pairs, second.inherited) == ((), version)
    world.run(3, model=second.published)
    found = trace(world.artifacts, of(name), stores)
    assert len(found.affected_versions) == 3


def test_a_version_whose_snapshot_is_gone_is_said_to_be_unknown(world: World) -> None:
    work = world.run(1)
    world.run(2)
    for path in Path(work.request.folder.removeprefix("file://")).rglob("*.parquet"):
        path.unlink()
    found = trace(world.artifacts, of("ann"), stores)
    assert [uri.rstrip("/").rpartition("/")[2] for uri in found.unknown] == ["run1-00000001"]
    assert found.searched == 1


def test_a_run_is_affected_by_what_it_learned_or_inherited() -> None:
    make: Callable[..., RunTrace] = RunTrace
    assert not make(run="r", snapshot="s").affected
    assert make(run="r", snapshot="s", inherited="v").affected


@pytest.mark.parametrize("name", ["", "  ", "x" * 513])
def test_a_name_that_no_row_can_have_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="empty or longer than 512"):
        of(name)
    with pytest.raises(RequestError, match="empty or longer than 512"):
        Subject(frozenset())


def test_names_that_read_the_same_are_one(world: World) -> None:
    world.run(1)
    assert trace(world.artifacts, of("  ann "), stores).runs == trace(world.artifacts, of("ann"), stores).runs
    assert Subject(frozenset({"Jose\u0301"})) == Subject(frozenset({"Jos\u00e9"}))


# What is there no more.


def gone(work_folder: str) -> None:
    shutil.rmtree(work_folder.removeprefix("file://"))


def test_after_an_erasure_a_trace_still_names_what_learned_from_the_subject(
    world: World, tmp_path: Path
) -> None:
    first = world.run(1)
    before = trace(world.artifacts, of("ann"), stores)
    learned = sum(pair.side is Side.TRAIN for pair in before.runs[0].pairs)
    assert learned
    erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    world.run(2, model=before.affected_versions[0])
    after = trace(world.artifacts, of("ann"), stores)
    assert [run.pairs for run in after.runs] == [(), ()]
    assert (after.runs[0].erased_train, after.runs[0].erased_holdout) == (learned, 3 - learned)
    assert after.affected_versions == (before.affected_versions[0], after.runs[1].published)
    # Others of an erased pair learned nothing less; who had no part in it did not.
    (bob, *_) = trace(world.artifacts, of("bob", Kind.ACTOR), stores).runs
    assert bob.erased_train + bob.erased_holdout == 1
    assert trace(world.artifacts, of("nurse1"), stores).runs[0].erased_train == 0
    assert (
        b"ann"
        not in (Path(first.request.folder.removeprefix("file://")) / "data" / "erased.jsonl").read_bytes()
    )


def test_a_version_that_goes_on_from_one_whose_run_is_gone_is_unknown_too(world: World) -> None:
    first = world.run(1)
    one = trace(world.artifacts, of("ann"), stores).affected_versions[0]
    world.exclude("ann")
    world.run(2, model=one)
    assert len(trace(world.artifacts, of("ann"), stores).affected_versions) == 2
    gone(first.request.folder)
    found = trace(world.artifacts, of("ann"), stores)
    assert found.affected_versions == ()
    assert [uri.rstrip("/").rpartition("/")[2] for uri in found.unknown] == ["run1-00000001", "run2-00000002"]


def test_a_version_whose_own_run_is_gone_is_affected_where_it_went_on_from_one_that_is(world: World) -> None:
    world.run(1)
    one = trace(world.artifacts, of("ann"), stores).affected_versions[0]
    world.exclude("ann")
    second = world.run(2, model=one)
    gone(second.request.folder)
    found = trace(world.artifacts, of("ann"), stores)
    assert len(found.affected_versions) == 2
    assert found.unknown == ()


def test_a_run_that_went_on_from_a_candidate_that_was_never_published_inherits_too(
    world: World, tmp_path: Path
) -> None:
    first = world.run(1, published=False)
    candidate = f"{first.request.folder}candidate/"
    shutil.copytree(tmp_path / "model", candidate.removeprefix("file://"))
    world.exclude("ann")
    second = world.run(2, model=candidate)
    found = trace(world.artifacts, of("ann"), stores)
    assert [(run.run, bool(run.inherited)) for run in found.runs] == [
        (first.request.folder, False),
        (second.request.folder, True),
    ]


def test_a_foreign_model_in_a_folder_called_versions_makes_nothing_unknown(
    world: World, tmp_path: Path
) -> None:
    world.run(1)
    foreign = tmp_path / "elsewhere" / "versions" / "llama"
    shutil.copytree(tmp_path / "model", foreign)
    world.run(2, model=foreign.as_uri() + "/")
    assert trace(world.artifacts, of("nobody"), stores).unknown == ()
    shutil.rmtree(foreign)
    assert len(trace(world.artifacts, of("nobody"), stores).unknown) == 1


def test_names_in_a_snapshot_from_before_they_had_one_form_are_found(world: World) -> None:
    work = world.run(1)
    folder = Path(work.request.folder.removeprefix("file://")) / "data"
    pairs = {side: list(read_split(folder, side)) for side in Side}
    renamed = {"ann": "Jose\u0301 ", "bob": "b" * 600}
    for side, some in pairs.items():
        write_split([replace(p, actor=renamed.get(p.actor, p.actor)) for p in some], folder, side)
    assert sum(len(run.pairs) for run in trace(world.artifacts, of("Jos\u00e9"), stores).runs) == 3


def test_a_copy_of_a_version_does_not_hide_the_version(world: World, tmp_path: Path) -> None:
    world.run(1)
    original = trace(world.artifacts, of("ann"), stores).affected_versions[0]
    world.exclude("ann")
    world.run(2, model=original)
    shutil.copytree(original.removeprefix("file://"), tmp_path / "replica" / "versions" / "run1-00000001")
    replica = (tmp_path / "replica").as_uri() + "/"
    found = trace(world.artifacts, of("ann"), stores, publish_uris=(replica,))
    assert len(found.affected_versions) == 3
    assert {original, f"{replica}versions/run1-00000001/"} < set(found.affected_versions)
    assert (found.searched, found.unknown) == (2, ())


def test_what_a_version_went_on_from_is_read_from_its_lineage_where_its_run_does_not_say(
    world: World,
) -> None:
    world.run(1)
    one = trace(world.artifacts, of("ann"), stores).affected_versions[0]
    world.exclude("ann")
    second = world.run(2, model=one)
    Path(f"{second.request.folder}results/prepare.json".removeprefix("file://")).write_text("{}")
    found = trace(world.artifacts, of("ann"), stores)
    assert len(found.affected_versions) == 2
    (Path(str(found.runs[1].published).removeprefix("file://")) / "lineage.json").write_text("{}")
    found = trace(world.artifacts, of("ann"), stores)
    assert (len(found.affected_versions), len(found.unknown)) == (1, 1)
