"""Erase: a subject leaves everything that is stored, stays out of later runs, and a stop anywhere loses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alignment_trainer.data.exclusions import EXCLUSIONS, read_exclusions
from alignment_trainer.data.split import Side
from alignment_trainer.storage.folders import read_sums
from alignment_trainer.subjects.erase import erase
from alignment_trainer.subjects.trace import trace
from support.erasing import SECRET, Dying, World, of, stores
from support.preparing import pair


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_an_erased_subject_is_nowhere_in_the_artifacts(world: World, tmp_path: Path) -> None:
    works = [world.run(1), world.run(2, published=False)]
    before = [world.pairs(work) for work in works]
    artifacts = Path(world.artifacts.removeprefix("file://"))
    for cache in ("reference", "judge", "digests"):
        stores(world.artifacts).put(f"{world.artifacts}cache/{cache}/x", b"Ann Smith, as a judge sees it")
    done = erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    assert done.pairs == 6
    assert done.cached == 2
    assert len(done.snapshots) == 2
    for work, old in zip(works, before, strict=True):
        now = world.pairs(work)
        for side in Side:
            gone = {p.pair_id for p in old[side]} - {p.pair_id for p in now[side]}
            assert gone == {p.pair_id for p in old[side] if "ann" in (p.actor, *p.other_actors)}
            assert now[side] == [p for p in old[side] if p.pair_id not in gone]
    (artifacts / "cache" / "digests" / "x").unlink()
    (artifacts / EXCLUSIONS).unlink()
    assert b"Ann Smith" not in everything(artifacts)
    assert b"What did Ann want" not in everything(artifacts)
    assert not any(run.pairs for run in trace(world.artifacts, of("ann"), stores).runs)


def test_generations_and_scores_of_erased_pairs_go_and_the_rest_stays(world: World, tmp_path: Path) -> None:
    work = world.run(1)
    victim = world.pairs(work)[Side.HOLDOUT][0]
    done = erase(world.artifacts, of(victim.event_ids[0]), stores, tmp_path / "erasing")
    assert done.evaluations == (f"{work.request.folder}evaluation/",)
    assert done.versions == ()
    folder = Path(work.request.folder.removeprefix("file://")) / "evaluation"
    left = (folder / "generations.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    ids = [json.loads(line)["pairId"] for line in left]
    scored = pq.read_table(folder / "scores.parquet").column("pair_id").to_pylist()
    assert ids == scored == [p.pair_id for p in world.pairs(work)[Side.HOLDOUT]]
    assert victim.pair_id not in ids
    assert read_sums(stores(work.request.folder), f"{work.request.folder}evaluation/") is not None


def test_what_was_erased_is_excluded_from_every_later_run(world: World, tmp_path: Path) -> None:
    world.run(1)
    erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    later = world.run(2)
    pairs = [p for side in world.pairs(later).values() for p in side]
    assert not any("ann" in (p.actor, *p.other_actors) for p in pairs)
    assert not any(SECRET in str(p.prompt) and p.actor == "ann" for p in pairs)
    manifest = json.loads(
        (Path(later.request.folder.removeprefix("file://")) / "data" / "manifest.json").read_text()
    )
    assert manifest["funnel"]["excluded"] == 3
    assert manifest["exclusionsDigest"] == read_exclusions([f"{world.artifacts}{EXCLUSIONS}"], stores).digest


def test_a_pair_erased_by_its_own_id_stays_out_with_its_rows_and_with_every_copy(
    world: World, tmp_path: Path
) -> None:
    work = world.run(1)
    family = trace(world.artifacts, of("family"), stores).runs[0].pairs[0]
    without_id = next(
        p for side in world.pairs(work).values() for p in side if p.actor == "ann" and not p.event_ids
    )
    world.add(pair(902, id="copy", actor="zoe", prompt="What did Ann want?"))
    for name in (family.pair_id, without_id.pair_id):
        erase(world.artifacts, of(name), stores, tmp_path / "erasing")
    later = [p for side in world.pairs(world.run(2)).values() for p in side]
    assert not any("link1" in p.event_ids for p in later)
    assert not {p.pair_id for p in later} & {family.pair_id, without_id.pair_id}
    assert len(later) > 50


def test_erasing_twice_changes_nothing_more(world: World, tmp_path: Path) -> None:
    world.run(1)
    erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    before = everything(Path(world.artifacts.removeprefix("file://")))
    again = erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    assert (again.pairs, again.snapshots) == (0, ())
    assert everything(Path(world.artifacts.removeprefix("file://"))) == before


def test_an_erasure_that_was_killed_anywhere_is_finished_by_the_next(world: World, tmp_path: Path) -> None:
    """Each time on artifacts that no attempt has touched: what one left behind must not help the next."""
    work = world.run(1)
    artifacts = Path(world.artifacts.removeprefix("file://"))
    shutil.copytree(artifacts, tmp_path / "untouched")
    before = trace(world.artifacts, of("ann"), stores).runs[0]
    for writes in range(40):
        shutil.rmtree(artifacts)
        shutil.copytree(tmp_path / "untouched", artifacts)
        killed, dying = False, Dying(writes)
        try:
            erase(world.artifacts, of("ann"), lambda _, store=dying: store, tmp_path / "erasing")
        except KeyboardInterrupt:
            killed = True
        again = erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
        assert again.versions == (before.published,)
        (left,) = trace(world.artifacts, of("ann"), stores).runs
        assert (left.pairs, left.erased_train + left.erased_holdout) == ((), len(before.pairs))
        assert sum(len(pairs) for pairs in world.pairs(work).values()) > 50
        (artifacts / EXCLUSIONS).unlink()
        assert b"Ann Smith" not in everything(artifacts)
        if not killed:
            break
    else:
        pytest.fail("40 writes were not enough")
    assert writes > 8


def test_the_page_of_a_report_that_is_no_longer_understood_goes_and_holds_nothing_up(
    world: World, tmp_path: Path
) -> None:
    work = world.run(1)
    victim = world.pairs(work)[Side.HOLDOUT][0]
    uri = f"{work.request.folder}evaluation/report.json"
    stores(uri).put(uri, json.dumps({"examples": [{"prompt": victim.prompt}], "from": "before"}).encode())
    stores(uri).put(uri.replace(".json", ".html"), str(victim.prompt).encode())
    erase(world.artifacts, of(victim.event_ids[0]), stores, tmp_path / "erasing")
    assert json.loads(stores(uri).get(uri)[0]) == {"examples": [], "from": "before"}
    assert stores(uri).stat(uri.replace(".json", ".html")) is None


def test_the_examples_of_a_report_go_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment_trainer.evaluation import rerender

    work = world.run(1)
    victim, other = world.pairs(work)[Side.HOLDOUT][:2]
    uri = f"{work.request.folder}evaluation/report.json"
    examples = [
        {"prompt": p.prompt, "final": p.chosen, "candidate": "c", "champion": "d"} for p in (victim, other)
    ]
    stores(uri).put(uri, json.dumps({"examples": examples, "metrics": [{"name": "m"}]}).encode())
    stores(uri).put(uri.replace(".json", ".html"), json.dumps(examples).encode())
    monkeypatch.setattr(rerender, "rerendered", json.dumps)
    erase(world.artifacts, of(victim.event_ids[0]), stores, tmp_path / "erasing")
    for name in (uri, uri.replace(".json", ".html")):
        left = json.loads(stores(uri).get(name)[0])
        assert [e["prompt"] for e in left["examples"]] == [other.prompt]
        assert left["metrics"] == [{"name": "m"}]
