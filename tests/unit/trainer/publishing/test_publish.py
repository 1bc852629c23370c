"""Publish: one version, complete or absent; one alias, moved or left alone."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from alignment_api.spec import Decision
from alignment_api.stage import StageResult
from alignment_api.verdict import Result
from alignment_trainer.errors import RequestError, Stopped, TemporaryError
from alignment_trainer.models.aliases import alias_uri, read_alias, set_alias, versions
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.publishing.stage import run
from alignment_trainer.storage.folders import SUMS, list_folder, read_sums, upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import ObjectStore
from support.models import adapter, full_weights
from support.publishing import Publishable
from support.unreliable import KilledError, Killing

stores = Stores()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return (tmp_path / "storage").as_uri()


@pytest.fixture
def base(tmp_path: Path) -> str:
    return full_weights(tmp_path / "base")


@pytest.fixture
def work(root: str, base: str, tmp_path: Path) -> Publishable:
    full_weights(tmp_path / "candidate", content=b"aligned")
    return Publishable(root, tmp_path / "candidate", base)


def publish_folder(work: Publishable) -> str:
    return work.request.spec.publish.uri


def champion(work: Publishable) -> str | None:
    found = read_alias(alias_uri(publish_folder(work), "champion"), stores("file:///"))
    return found[0].target.version if found else None


def test_published_version_has_model_card_lineage_report_and_sums(work: Publishable, tmp_path: Path) -> None:
    result = run(work.context(tmp_path / "scratch"))
    assert result.published is not None
    folder = result.published.uri
    assert folder == publish_folder(work) + "versions/notes-12345678/"
    assert set(list_folder(stores(folder), folder)) == {
        "README.md",
        SUMS,
        "config.json",
        "lineage.json",
        "model.safetensors",
        "report.html",
        "report.json",
        "tokenizer.json",
    }
    local = stores(folder).local_path(folder)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=local, check=True)
    assert result.published.alias == alias_uri(publish_folder(work), "champion")
    assert not result.champion_moved
    assert champion(work) == "notes-12345678"


def test_published_version_is_what_the_next_run_pins(work: Publishable, tmp_path: Path) -> None:
    result = run(work.context(tmp_path / "scratch"))
    pin = Resolver(stores).pin(alias_uri(publish_folder(work), "champion"))
    assert result.published is not None
    assert (pin.uri, pin.digest, pin.version) == (
        result.published.uri,
        result.published.digest,
        result.published.version,
    )


def test_model_card_says_data_verdict_base_and_how_to_load(work: Publishable, tmp_path: Path) -> None:
    run(work.context(tmp_path / "scratch"))
    card = stores("file:///").get(publish_folder(work) + "versions/notes-12345678/README.md")[0].decode()
    for words in (
        "| Pairs used | 90 (70 to train on, 20 held out) |",
        "**Passed**: editBurden -0.07",
        work.pins.model.uri,
        "AutoModelForCausalLM.from_pretrained(folder)",
        "gate (automatic)",
        "licence",
        "there was no champion yet",
    ):
        assert words in card
    assert "\n\n\n" not in card


def test_adapter_names_a_base_that_peft_can_find(root: str, base: str, tmp_path: Path) -> None:
    adapter(tmp_path / "candidate", base)
    work = Publishable(root, tmp_path / "candidate", base)
    run(work.context(tmp_path / "scratch"))
    folder = publish_folder(work) + "versions/notes-12345678/"
    config = stores(folder).get(folder + "adapter_config.json")[0].decode()
    assert f'"base_model_name_or_path": "{tmp_path / "base"}"' in config
    assert Resolver(stores).pin(folder).uri == folder


def test_person_who_released_is_named(root: str, base: str, tmp_path: Path) -> None:
    full_weights(tmp_path / "candidate")
    decision = Decision.model_validate(
        {"result": "Approve", "by": "ana@example.org", "reason": "reads better"}
    )
    work = Publishable(root, tmp_path / "candidate", base, verdict=Result.INCONCLUSIVE, decision=decision)
    run(work.context(tmp_path / "scratch"))
    folder = publish_folder(work)
    assert (
        "ana@example.org: reads better"
        in stores(folder).get(folder + "versions/notes-12345678/README.md")[0].decode()
    )
    found = read_alias(alias_uri(folder, "champion"), stores(folder))
    assert found is not None
    assert found[0].moved_by == "ana@example.org"


@pytest.mark.parametrize(
    ("verdict", "decision"),
    [
        (Result.FAILED, None),
        (Result.FAILED, "Approve"),
        (Result.INCONCLUSIVE, None),
        (Result.INCONCLUSIVE, "Reject"),
        (Result.PASSED, "Reject"),
    ],
)
def test_what_the_gate_did_not_release_is_not_published(
    root: str, base: str, tmp_path: Path, verdict: Result, decision: str | None
) -> None:
    full_weights(tmp_path / "candidate")
    word = Decision.model_validate({"result": decision, "by": "x", "reason": "y"}) if decision else None
    work = Publishable(root, tmp_path / "candidate", base, verdict=verdict, decision=word)
    with pytest.raises(RequestError) as caught:
        run(work.context(tmp_path / "scratch"))
    assert caught.value.reason == "NotReleased"
    assert list_folder(stores(root), publish_folder(work)) == {}


def test_alias_that_moved_is_left_alone_and_the_version_published(
    root: str, base: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        full_weights(tmp_path / name, content=name.encode())
    first = Publishable(root, tmp_path / "one", base, name="first")
    second = Publishable(root, tmp_path / "two", base, name="second")
    run(first.context(tmp_path / "scratch1"))
    result = run(second.context(tmp_path / "scratch2"))
    assert result.champion_moved
    assert result.published is not None
    assert result.published.alias is None
    assert champion(first) == "first-12345678"
    assert versions(publish_folder(first), stores(root)) == ("first-12345678", "second-12345678")


def test_of_runs_that_publish_at_once_one_moves_the_alias(root: str, base: str, tmp_path: Path) -> None:
    runs = []
    for n in range(4):
        full_weights(tmp_path / f"c{n}", content=bytes([n]))
        runs.append(Publishable(root, tmp_path / f"c{n}", base, name=f"run{n}"))
    results: list[StageResult] = []
    threads = [
        threading.Thread(target=lambda w=w, n=n: results.append(run(w.context(tmp_path / f"scratch{n}"))))
        for n, w in enumerate(runs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [r.published.version for r in results if r.published is not None and not r.champion_moved]
    assert len(results) == 4
    assert winners == [champion(runs[0])]


def test_second_attempt_changes_nothing(work: Publishable, tmp_path: Path) -> None:
    first = run(work.context(tmp_path / "scratch"))
    before = {info.uri: info.etag for info in stores("file:///").list(publish_folder(work))}
    second = run(work.context(tmp_path / "scratch"))
    assert second.published == first.published
    assert {info.uri: info.etag for info in stores("file:///").list(publish_folder(work))} == before


def test_complete_version_of_another_model_is_never_overwritten(
    work: Publishable, base: str, tmp_path: Path
) -> None:
    run(work.context(tmp_path / "scratch"))
    full_weights(tmp_path / "candidate", content=b"other")
    other = Publishable((tmp_path / "storage").as_uri(), tmp_path / "candidate", base)
    with pytest.raises(RequestError) as caught:
        run(other.context(tmp_path / "scratch"))
    assert caught.value.reason == "VersionExists"


def test_candidate_that_is_not_the_evaluated_one_is_refused(work: Publishable, tmp_path: Path) -> None:
    store = stores(work.folder)
    store.delete(f"{work.folder}candidate/{SUMS}")
    with pytest.raises(RequestError, match="gone or incomplete"):
        run(work.context(tmp_path / "scratch"))


@pytest.mark.parametrize("name", ["data/manifest.json", "evaluation/report.json"])
def test_what_an_erasure_changed_after_the_verdict_is_not_published(
    work: Publishable, name: str, tmp_path: Path
) -> None:
    """Who was erased while a person thought it over must not be in the next champion."""
    store = stores(work.folder)
    folder = Path(work.folder.removeprefix("file://")) / name.partition("/")[0]
    (folder / Path(name).name).write_text('{"erasedPairs": 1}')
    upload_folder(folder, f"{work.folder}{name.partition('/')[0]}/", store)
    with pytest.raises(RequestError, match="not what it was at the start") as caught:
        run(work.context(tmp_path / "scratch"))
    assert caught.value.reason == "ArtifactChanged"
    assert versions(publish_folder(work), store) == ()
    assert champion(work) is None


def test_an_erasure_after_the_release_does_not_fail_the_attempt_that_stores_its_result(
    work: Publishable, tmp_path: Path
) -> None:
    first = run(work.context(tmp_path / "scratch"))
    stores(work.folder).delete(f"{work.folder}data/{SUMS}")
    assert run(work.context(tmp_path / "scratch")).published == first.published


def test_candidate_damaged_on_disk_is_not_published(work: Publishable, tmp_path: Path) -> None:
    store = stores(work.folder)
    store.put(f"{work.folder}candidate/model.safetensors", b"damaged")
    with pytest.raises(TemporaryError) as caught:
        run(work.context(tmp_path / "scratch"))
    assert caught.value.reason == "ChecksumDiffers"
    assert versions(publish_folder(work), store) == ()
    assert champion(work) is None


def test_told_to_stop_it_stops_before_the_next_file(work: Publishable, tmp_path: Path) -> None:
    context = work.context(tmp_path / "scratch")
    context.stop.set()
    with pytest.raises(Stopped):
        run(context)
    assert champion(work) is None


class Unconditional:
    """A store that says yes to every condition, as some do."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, uri: str, data: bytes, *, condition: object = None) -> Any:
        return self._store.put(uri, data)


def test_store_that_ignores_conditions_is_refused_with_that_sentence(
    work: Publishable, tmp_path: Path
) -> None:
    careless = cast("ObjectStore", Unconditional(stores("file:///")))
    with pytest.raises(RequestError, match="does not honour conditional puts") as caught:
        run(work.context(tmp_path / "scratch", lambda _: careless))
    assert caught.value.reason == "ConditionalPutsUnsupported"
    assert list_folder(stores("file:///"), publish_folder(work)) == {}


def changes_of(attempt: Callable[[ObjectStore], object]) -> int:
    """How many changes an undisturbed attempt makes."""
    counting = Killing(stores("file:///"), after=10**6)
    with counting.as_store() as store:
        attempt(store)
    return 10**6 - counting._left


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_killed_at_any_change_the_next_attempt_publishes_once(base: str, tmp_path: Path, late: bool) -> None:
    full_weights(tmp_path / "candidate", content=b"aligned")

    def prepared(place: str) -> Publishable:
        return Publishable((tmp_path / place).as_uri(), tmp_path / "candidate", base)

    def attempt(work: Publishable, store: ObjectStore) -> StageResult:
        return run(work.context(tmp_path / "scratch", lambda _: store))

    whole = prepared("whole")
    total = changes_of(lambda store: attempt(whole, store))
    assert total > 10
    for after in range(total):
        work = prepared(f"killed-{after}")
        with (
            Killing(stores("file:///"), after=after, late=late).as_store() as dying,
            pytest.raises(KilledError),
        ):
            attempt(work, dying)
        pointed_to = champion(work)
        folder = publish_folder(work) + "versions/notes-12345678/"
        if pointed_to is not None:
            assert set(read_sums(stores(folder), folder) or {}) | {SUMS} == set(
                list_folder(stores(folder), folder)
            )
        result = run(work.context(tmp_path / f"t{after}"))
        assert not result.champion_moved
        assert versions(publish_folder(work), stores(folder)) == ("notes-12345678",)
        assert champion(work) == "notes-12345678"
        local = stores(folder).local_path(folder)
        subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=local, check=True)


def test_alias_set_back_by_a_person_is_not_moved_again(work: Publishable, base: str, tmp_path: Path) -> None:
    run(work.context(tmp_path / "scratch"))
    full_weights(tmp_path / "next", content=b"next")
    following = Publishable((tmp_path / "storage").as_uri(), tmp_path / "next", base, name="following")
    store = stores("file:///")
    run(following.context(tmp_path / "scratch"))
    set_alias(publish_folder(work), "champion", "notes-12345678", store, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert run(following.context(tmp_path / "scratch")).champion_moved
    assert champion(work) == "notes-12345678"


def test_a_version_holds_no_texts_of_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from alignment_trainer.evaluation import rerender

    monkeypatch.setattr(rerender, "rerendered", json.dumps)
    base = full_weights(tmp_path / "base")
    full_weights(tmp_path / "candidate")
    work = Publishable((tmp_path / "storage").as_uri(), tmp_path / "candidate", base)
    report = {"examples": [{"prompt": "Ann Smith of Mill Lane"}], "metrics": [1]}
    uri = f"{work.folder}evaluation/report.json"
    work.stores(uri).put(uri, json.dumps(report).encode())
    version = run(work.context(tmp_path / "scratch")).output.uri
    for name in ("report.json", "report.html"):
        assert json.loads(work.stores(version).get(version + name)[0]) == {"examples": [], "metrics": [1]}
