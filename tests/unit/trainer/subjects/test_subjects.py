"""Trace and erase: every stored pair of a subject is found, leaves everything, and stays out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_api.names import StageName
from alignment_api.stage import ArtifactRef, StageRequest, StageResult
from alignment_api.status import PublishedModel
from alignment_trainer.data.exclusions import EXCLUSIONS, add_exclusions, read_exclusions
from alignment_trainer.data.rows import Pair
from alignment_trainer.data.snapshot import read_split
from alignment_trainer.data.split import Side
from alignment_trainer.data.stage import run as prepare
from alignment_trainer.errors import RequestError
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.results import store_result
from alignment_trainer.storage.folders import fetch_folder, read_sums, sums_digest, upload_folder
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import Condition, ConditionFailed, ObjectInfo
from alignment_trainer.subjects.erase import erase
from alignment_trainer.subjects.trace import Kind, RunTrace, Subject, trace
from support.models import full_weights
from support.preparing import context, edit, pair, signal, write_rows
from support.runs import DIGEST, START

stores = Stores()
SECRET = "Ann Smith of Mill Lane 7 came in with a broken wheel and a long story to tell."


def rows() -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [edit(n, actor=f"nurse{n % 4}") for n in range(60)]
    out += [
        edit(900, id="link1", actor="ann", group="family", prompt=SECRET),
        edit(
            900,
            id="link2",
            actor="bob",
            group="family",
            prompt=SECRET,
            response=edit(900)["edited"],
            edited="At last the family " * 4,
        ),
        signal("accept", 901, "Soup", id="yes", actor="ann"),
        signal("thumbs_down", 901, "Nails", id="no", actor="eve"),
        pair(902, actor="ann", prompt="What did Ann want?"),
    ]
    return out


class World:
    """Runs that were carried out up to publication, without any model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = write_rows(folder / "rows.jsonl", rows())
        self.artifacts = ""

    def run(self, number: int, *, model: str | None = None, published: bool = True) -> StageContext:
        """One run on all rows; ``model``: the version that it goes on from."""
        uid = f"{number:08d}-aaaa"
        data = {"sources": [{"uri": self.source}], "holdout": {"fraction": 0.3}}
        ready = context(self.folder, self.folder / "scratch", **data)
        wire = ready.request.to_wire()
        wire["run"]["uid"] = uid
        wire["run"]["name"] = f"run{number}"
        if model is not None:
            wire["spec"]["model"]["uri"] = model
        request = StageRequest.model_validate(wire)
        work = StageContext(request, stores, self.folder / f"scratch-{number}", ready.progress, ready.stop)
        work.scratch.mkdir()
        self.artifacts = request.spec.artifacts.uri
        result = prepare(work)
        store_result(request, result, stores(request.folder))
        self._finish(request, result, number, published=published)
        return work

    def _finish(self, request: StageRequest, result: StageResult, number: int, *, published: bool) -> None:
        candidate = ArtifactRef(uri=f"{request.folder}candidate/", digest=DIGEST)
        self._result(request, StageName.TRAIN, candidate)
        self._evaluation(request, result)
        if published:
            version = f"run{number}-{request.run.uid[:8]}"
            folder = self.folder / "published" / "versions" / version
            uri = full_weights(folder, content=version.encode())
            (folder / "tokenizer.json").write_bytes((self.folder / "model" / "tokenizer.json").read_bytes())
            upload_folder(folder, uri, stores(uri))
            model = PublishedModel(uri=uri, version=version, digest=DIGEST)
            self._result(request, StageName.PUBLISH, ArtifactRef(uri=uri, digest=DIGEST), published=model)

    def _result(self, request: StageRequest, stage: StageName, output: ArtifactRef, **extra: Any) -> None:
        result = StageResult(
            stage=stage, input_digest=DIGEST, output=output, started_time=START, finished_time=START, **extra
        )
        stores(request.folder).put(
            f"{request.folder}results/{stage}.json",
            result.model_dump_json(by_alias=True, exclude_none=True).encode(),
        )

    def _evaluation(self, request: StageRequest, result: StageResult) -> None:
        data = fetch_folder(result.output, stores(result.output.uri), self.folder)
        pairs = list(read_split(data, Side.HOLDOUT))
        local = self.folder / f"evaluation-{request.run.name}"
        local.mkdir()
        lines = [
            json.dumps(
                {"pairId": p.pair_id, "prompt": p.prompt, "final": p.chosen, "candidate": "x\u2028y\x85z"},
                ensure_ascii=False,
            )
            for p in pairs
        ]
        (local / "generations.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pq.write_table(
            pa.table({"pair_id": [p.pair_id for p in pairs], "score": [1.0] * len(pairs)}),
            local / "scores.parquet",
        )
        upload_folder(local, f"{request.folder}evaluation/", stores(request.folder))

    def pairs(self, work: StageContext) -> dict[Side, list[Pair]]:
        """What a run's snapshot holds now, verified by its checksums."""
        uri = f"{work.request.folder}data/"
        sums = read_sums(stores(uri), uri)
        assert sums is not None
        data = fetch_folder(ArtifactRef(uri=uri, digest=sums_digest(sums)), stores(uri), self.folder)
        return {side: list(read_split(data, side)) for side in Side}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def of(name: str, *kinds: Kind) -> Subject:
    return Subject(frozenset({name}), frozenset(kinds or Kind))


# Trace.


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


# Erase.


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
    assert trace(world.artifacts, of("ann"), stores).runs == ()


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


def test_a_pair_erased_by_its_own_id_is_excluded_by_its_rows(world: World, tmp_path: Path) -> None:
    work = world.run(1)
    family = trace(world.artifacts, of("family"), stores).runs[0].pairs[0]
    erase(world.artifacts, of(family.pair_id), stores, tmp_path / "erasing")
    later = world.pairs(world.run(2))
    assert not any("link1" in p.event_ids for side in later.values() for p in side)
    without_id = next(
        p for side in world.pairs(work).values() for p in side if p.actor == "ann" and not p.event_ids
    )
    with pytest.raises(RequestError, match=r"rows\.jsonl:65, which has no id"):
        erase(world.artifacts, of(without_id.pair_id), stores, tmp_path / "erasing")


def test_erasing_twice_changes_nothing_more(world: World, tmp_path: Path) -> None:
    world.run(1)
    erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    before = everything(Path(world.artifacts.removeprefix("file://")))
    again = erase(world.artifacts, of("ann"), stores, tmp_path / "erasing")
    assert (again.pairs, again.snapshots) == (0, ())
    assert everything(Path(world.artifacts.removeprefix("file://"))) == before


class Dying(LocalStore):
    """Ends the process, as it were, after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
        self._count()
        return super().put(uri, data, condition=condition)

    def upload(self, source: Path, uri: str) -> ObjectInfo:
        self._count()
        return super().upload(source, uri)

    def delete(self, uri: str) -> None:
        self._count()
        super().delete(uri)


def test_an_erasure_that_was_killed_anywhere_is_finished_by_the_next(world: World, tmp_path: Path) -> None:
    works = [world.run(1)]
    for writes in range(40):
        dying = Dying(writes)
        try:
            erase(world.artifacts, of("ann"), lambda _, store=dying: store, tmp_path / "erasing")
        except KeyboardInterrupt:
            continue
        break
    else:
        pytest.fail("40 writes were not enough")
    assert writes > 3
    assert trace(world.artifacts, of("ann"), stores).runs == ()
    pairs = [p for side in world.pairs(works[0]).values() for p in side]
    assert len(pairs) > 50
    artifacts = Path(world.artifacts.removeprefix("file://"))
    (artifacts / EXCLUSIONS).unlink()
    assert b"Ann Smith" not in everything(artifacts)


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


# The file of exclusions.


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


def test_a_run_is_affected_by_what_it_learned_or_inherited() -> None:
    make: Callable[..., RunTrace] = RunTrace
    assert not make(run="r", snapshot="s").affected
    assert make(run="r", snapshot="s", inherited="v").affected
