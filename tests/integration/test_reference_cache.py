"""The reference cache through the real train stage, on file:// and on a real S3 server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment_trainer.evaluation.models import load_frozen
from alignment_trainer.evaluation.scoring import encode, score
from alignment_trainer.models.fetch import LocalModel, fetch_model
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.policy import load_tokenizer
from alignment_trainer.training.prefix import forward
from alignment_trainer.training.reference_cache import ReferenceCache, pair_keys
from alignment_trainer.training.tokens import tokenize_pair
from support.material import pair
from support.s3server import S3Server
from support.trainstage import TrainStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAIRS = [pair(number) for number in range(60)]
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2}


@pytest.fixture(params=["file", "s3"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> TrainStage:
    if request.param == "file":
        return TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    s3: S3Server = request.getfixturevalue("s3")
    storage = s3.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return TrainStage(request.getfixturevalue("bucket"), tmp_path, Stores(s3.spec), storage)


@pytest.fixture
def local(tmp_path: Path) -> TrainStage:
    return TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)


def segments(stage: TrainStage) -> list[str]:
    root = stage.root + "artifacts/cache/reference/"
    return [info.uri for info in stage.stores(root).list(root)]


def cached(stage: TrainStage, folder: str) -> dict[int, tuple[float, float]]:
    """Values of a scope's folder, by the pair's number in PAIRS."""
    tokenizer = load_tokenizer(base_of(stage))
    keys = pair_keys((tokenize_pair(p, tokenizer) for p in PAIRS), 128)
    found = ReferenceCache(stage.stores(folder), folder).read(keys).tolist()
    return {number: (a, b) for number, (a, b) in enumerate(found) if not np.isnan(a)}


def base_of(stage: TrainStage) -> LocalModel:
    return fetch_model(Resolver(stage.stores).pin(stage.model), stage.stores, stage.scratch / "fetched")


def scored(stage: TrainStage, model: LocalModel) -> dict[int, tuple[float, float]]:
    """Log-probabilities of PAIRS under a model as evaluation computes them: padded, plain attention."""
    tokenizer = load_tokenizer(model)
    loaded = load_frozen(model, stage.request(f"s{id(model)}", PAIRS).spec.training.precision)
    sides = [
        score(
            loaded,
            [encode(tokenizer, p.prompt, getattr(p, side), 128) for p in PAIRS],
            tokenizer.pad_token_id,
            lambda _done: None,
        ).logps
        for side in ("chosen", "rejected")
    ]
    return dict(enumerate(zip(*(side.tolist() for side in sides), strict=True)))


def assert_equal(found: dict[int, tuple[float, float]], expected: dict[int, tuple[float, float]]) -> None:
    assert found.keys() == expected.keys()
    a, b = (np.array([values[number] for number in sorted(values)]) for values in (found, expected))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_second_cycle_computes_only_new_pairs_and_damage_is_repaired(
    stage: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    loaded: list[Any] = []
    real = transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda *args, **kwargs: loaded.append(args) or real(*args, **kwargs),
    )
    first = stage.run("first", PAIRS[:40], **LORA)
    assert first.record["reference"] == {"pairs": 40, "cached": 0}
    second = stage.run("second", PAIRS[10:60], **LORA)
    assert second.record["reference"] == {"pairs": 50, "cached": 30}
    again = stage.run("again", PAIRS[10:60], **LORA)
    assert again.record["reference"] == {"pairs": 50, "cached": 50}
    assert curve(again) == curve(second), "a cached reference trains the same"
    assert len(loaded) == 3, "one model per stage, no second one for the reference"
    damaged = segments(stage)[0]
    content, _ = stage.stores(damaged).get(damaged)
    stage.stores(damaged).put(damaged, content[:-1] + bytes([content[-1] ^ 1]))
    repaired = stage.run("repaired", PAIRS[10:60], **LORA)
    assert repaired.record["reference"]["cached"] < 50
    assert curve(repaired) == pytest.approx(curve(second), abs=1e-5)
    assert stage.run("last", PAIRS[10:60], **LORA).record["reference"]["cached"] == 50


def curve(trained: Any) -> list[float]:
    return [entry["loss"] for entry in trained.record["curve"] if "loss" in entry]


def test_the_reference_is_the_base_for_a_fresh_adapter_and_the_frozen_copy_for_a_trained_one(
    local: TrainStage,
) -> None:
    fresh = local.run("fresh", PAIRS, **LORA)
    (segment,) = segments(local)
    base_folder = segment.rpartition("/")[0] + "/"
    assert_equal(cached(local, base_folder), scored(local, base_of(local)))
    going_on = local.run("going-on", PAIRS, model=fresh.result.output.uri, **LORA)
    assert going_on.record["reference"]["cached"] == 0, "another reference is another scope"
    (other,) = {uri.rpartition("/")[0] + "/" for uri in segments(local)} - {base_folder}
    expected = scored(local, fresh.model)
    assert_equal(cached(local, other), expected)
    moved = [abs(expected[n][0] - value[0]) for n, value in cached(local, base_folder).items()]
    assert max(moved) > 0.1, "the adapter had moved the model, so the two references cannot be mistaken"


def test_after_a_warm_start_the_reference_is_the_warm_started_policy(local: TrainStage) -> None:
    warm = local.run("warm", PAIRS, warmStart={"epochs": 1, "learningRate": 1e-2}, **LORA)
    first = next(e for e in warm.record["curve"] if "rewards/chosen" in e)
    assert first["rewards/chosen"] == pytest.approx(0, abs=1e-3), "the policy starts at its reference"
    (segment,) = segments(local)
    values = cached(local, segment.rpartition("/")[0] + "/")
    base = scored(local, base_of(local))
    moved = np.mean([values[n][0] - base[n][0] for n in base])
    assert moved > 1, "the warm start had raised what people chose"


@pytest.mark.parametrize(
    "change",
    [{"precision": "BFloat16"}, {"engine": "TRL"}],
    ids=["number format", "forward"],
)
def test_what_changes_the_numbers_changes_the_scope(local: TrainStage, change: dict[str, Any]) -> None:
    local.run("one", PAIRS[:16], **LORA)
    assert local.run("other", PAIRS[:16], **LORA, **change).record["reference"]["cached"] == 0


def test_one_precision_of_a_frozen_base_and_of_weights_in_training_are_two_scopes(local: TrainStage) -> None:
    low = {"precision": "BFloat16"}
    full = local.run("full", PAIRS[:16], **low, learningRate=1e-4)
    assert full.record["reference"] == {"pairs": 16, "cached": 0}
    assert local.run("adapter", PAIRS[:16], **low, **LORA).record["reference"]["cached"] == 0
    assert local.run("again", PAIRS[:16], **low, **LORA).record["reference"]["cached"] == 16


def test_a_forward_with_other_numbers_uses_none_of_the_old_ones(
    local: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.run("one", PAIRS[:16], **LORA)
    monkeypatch.setattr(forward, "VERSION", forward.VERSION + 1)
    assert local.run("other", PAIRS[:16], **LORA).record["reference"]["cached"] == 0


def test_passes_of_the_reference_compute_no_statistics(
    local: TrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    kept = forward.score_rows

    def score_rows(*rows: Any) -> Any:
        if not torch.is_grad_enabled():
            asked.append(rows[-1])
        return kept(*rows)

    monkeypatch.setattr(forward, "score_rows", score_rows)
    first = local.run("one", PAIRS[:16], **LORA).record["curve"][0]
    check, *reference = asked
    assert "entropy" in check, "the self-check compares them"
    assert set(reference) == {()}
    assert first["entropy"] > 0


def test_two_runs_that_write_at_once_share_what_they_computed(stage: TrainStage) -> None:
    requests = []
    for name, pairs in (("left", PAIRS[:40]), ("right", PAIRS[20:])):
        file = stage.scratch / f"{name}.json"
        file.write_text(stage.request(name, pairs, **LORA).model_dump_json(by_alias=True, exclude_none=True))
        requests.append(file)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "alignment_trainer.main", "train", "--request", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=stage.scratch,
            text=True,
        )
        for file in requests
    ]
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-3000:]
    assert stage.run("after", PAIRS, **LORA).record["reference"] == {"pairs": 60, "cached": 60}
