"""Judge and sets are what they were when prepare looked: evaluate takes no others, whatever became of them since."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignment_api.names import StageName
from alignment_api.stage import StageResult
from alignment_trainer.data.stage import run as prepare
from alignment_trainer.errors import DataError, RequestError
from alignment_trainer.evaluation.judges import open_judge
from alignment_trainer.evaluation.loading import load_sets
from alignment_trainer.evaluation.sets import read_sets
from alignment_trainer.models.aliases import alias_uri, set_alias
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores
from support.models import full_weights
from support.preparing import context, edit, write_rows

stores = Stores()
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def evaluation(tmp_path: Path) -> dict[str, Any]:
    """An anchor set, a refusal set, and a reward model behind an alias."""
    write_rows(tmp_path / "general.jsonl", [{"text": f"text {n}"} for n in range(2100)])
    write_rows(
        tmp_path / "safety.jsonl", [{"prompt": "how to"}, {"prompt": [{"role": "user", "content": "?"}]}]
    )
    judges = (tmp_path / "judges").as_uri() + "/"
    for version in ("v1", "v2"):
        full_weights(tmp_path / "work" / version, content=version.encode())
        upload_folder(tmp_path / "work" / version, f"{judges}versions/{version}/", stores(judges))
    set_alias(judges, "best", "v1", stores(judges), now=NOW)
    return {
        "anchors": [{"name": "general", "uri": (tmp_path / "general.jsonl").as_uri()}],
        "refusals": [{"name": "safety", "uri": (tmp_path / "safety.jsonl").as_uri()}],
        "judge": {"type": "RewardModel", "uri": alias_uri(judges, "best")},
    }


def prepared(tmp_path: Path, evaluation: dict[str, Any]) -> tuple[StageContext, StageResult]:
    rows = write_rows(tmp_path / "rows.jsonl", [edit(n) for n in range(40)])
    given = context(tmp_path, tmp_path / "scratch", sources=[{"uri": rows}], evaluation=evaluation)
    return given, prepare(given)


def evaluating(given: StageContext, result: StageResult) -> tuple[StageContext, Path]:
    """What evaluate is given after that prepare, and its copy of the snapshot."""
    request = given.request.model_copy(
        update={
            "stage": StageName.EVALUATE,
            "pins": result.pins,
            "inputs": {StageName.PREPARE: result.output},
        }
    )
    return replace(given, request=request), Path(result.output.uri.removeprefix("file://"))


def test_prepare_pins_judge_and_sets(tmp_path: Path, evaluation: dict[str, Any]) -> None:
    given, result = prepared(tmp_path, evaluation)
    pins = result.pins
    assert pins is not None
    assert pins.judge is not None
    assert (pins.judge.version, pins.judge.alias) == ("v1", evaluation["judge"]["uri"])
    assert pins.judge.digest == Resolver(stores).pin((tmp_path / "work" / "v1").as_uri() + "/").digest
    assert pins.sets is not None
    assert pins.sets.files == 2
    listed = json.loads((Path(result.output.uri.removeprefix("file://")) / "manifest.json").read_text())[
        "sets"
    ]
    assert [file["uri"] for file in listed] == [
        (tmp_path / name).as_uri() for name in ("general.jsonl", "safety.jsonl")
    ]
    sets = load_sets(*evaluating(given, result))
    assert (len(sets.anchors["general"]), len(sets.refusals["safety"])) == (2000, 2)


def test_a_run_without_them_pins_none(tmp_path: Path) -> None:
    given, result = prepared(tmp_path, {})
    assert result.pins is not None
    assert (result.pins.judge, result.pins.sets) == (None, None)
    assert load_sets(*evaluating(given, result)).files == ()


@pytest.mark.parametrize("name", ["general.jsonl", "safety.jsonl"])
def test_a_set_that_was_replaced_is_refused_by_name(
    tmp_path: Path, evaluation: dict[str, Any], name: str
) -> None:
    later = evaluating(*prepared(tmp_path, evaluation))
    path = tmp_path / name
    # Beyond the rows that are used, even: the file is pinned, not what is taken from it.
    path.write_text(path.read_text() + '{"text": "x", "prompt": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=f"{name} was changed while the run worked") as caught:
        load_sets(*later)
    assert caught.value.reason == "SetChanged"


def test_the_judge_is_the_one_that_the_alias_named_then(tmp_path: Path, evaluation: dict[str, Any]) -> None:
    given, _ = evaluating(*prepared(tmp_path, evaluation))
    judges = (tmp_path / "judges").as_uri() + "/"
    set_alias(judges, "best", "v2", stores(judges), now=NOW)
    judge = open_judge(given)
    assert judge is not None
    assert judge.describe()["uri"] == f"{judges}versions/v1/"


def test_a_judge_whose_weights_were_changed_is_refused(tmp_path: Path, evaluation: dict[str, Any]) -> None:
    own = full_weights(tmp_path / "own-judge")
    given, _ = evaluating(*prepared(tmp_path, evaluation | {"judge": {"type": "RewardModel", "uri": own}}))
    full_weights(tmp_path / "own-judge", content=b"other")
    with pytest.raises(RequestError, match="own-judge/ has digest") as caught:
        open_judge(given)
    assert caught.value.reason == "ModelChanged"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a refusal's"}, "SetInvalid"),
        ({"text": " "}, "SetInvalid"),
        ({"text": ["no message"]}, "SetInvalid"),
        (None, "SetEmpty"),
    ],
    ids=["another field", "nothing but blanks", "a list of no messages", "no rows"],
)
def test_a_set_that_cannot_be_used_is_found_before_anything_is_trained(
    tmp_path: Path, evaluation: dict[str, Any], row: dict[str, Any] | None, reason: str
) -> None:
    write_rows(tmp_path / "general.jsonl", [row] if row else [])
    with pytest.raises(DataError, match=r"general") as caught:
        prepared(tmp_path, evaluation)
    assert caught.value.reason == reason


def test_a_set_that_is_not_there_is_named(tmp_path: Path, evaluation: dict[str, Any]) -> None:
    (tmp_path / "safety.jsonl").unlink()
    with pytest.raises(RequestError, match=r"safety.jsonl, the set safety, does not exist"):
        prepared(tmp_path, evaluation)


def test_one_file_may_serve_as_two_sets(tmp_path: Path) -> None:
    from alignment_api.spec import EvaluationSpec

    uri = write_rows(tmp_path / "both.jsonl", [{"text": "a", "prompt": "b"}])
    spec = EvaluationSpec.model_validate(
        {"anchors": [{"name": "one", "uri": uri}], "refusals": [{"name": "two", "uri": uri}]}
    )
    sets = read_sets(spec, stores)
    assert (sets.anchors, sets.refusals, len(sets.files)) == ({"one": ["a"]}, {"two": ["b"]}, 1)


def test_a_set_may_be_a_parquet_file_with_whatever_other_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from alignment_api.spec import EvaluationSpec

    pq.write_table(pa.table({"text": ["one", "two"], "image": [b"\xff", b""]}), tmp_path / "general.parquet")
    anchors = [{"name": "general", "uri": (tmp_path / "general.parquet").as_uri()}]
    sets = read_sets(EvaluationSpec.model_validate({"anchors": anchors}), stores)
    assert sets.anchors == {"general": ["one", "two"]}
