"""The champion must read the tokens that the model writes; found out by prepare, before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from alignment_trainer.data.stage import run
from alignment_trainer.errors import RequestError
from support.models import full_weights
from support.preparing import context, pair, write_rows
from support.tiny import save_tiny_tokenizer


def prepare(folder: Path, champion: str) -> None:
    uri = write_rows(folder / "rows.jsonl", [pair(n) for n in range(40)])
    run(
        context(
            folder,
            folder / "scratch",
            evaluation={"champion": {"uri": champion}},
            sources=[{"uri": uri, "format": "Pairs"}],
        )
    )


def test_a_champion_with_another_tokenizer_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    champion = full_weights(tmp_path / "champion", content=b"other")
    save_tiny_tokenizer(tmp_path / "champion")
    path = tmp_path / "champion" / "tokenizer.json"
    wire = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = wire["model"]["vocab"]
    vocabulary["!"], vocabulary["A"] = vocabulary["A"], vocabulary["!"]
    path.write_text(json.dumps(wire), encoding="utf-8")
    with pytest.raises(RequestError, match="2 of 259 tokens have another id, or none") as refused:
        prepare(tmp_path, champion)
    assert refused.value.reason == "TokenizerDiffers"


def test_a_champion_whose_tokenizer_was_saved_by_training_is_the_same(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    champion = full_weights(tmp_path / "champion", content=b"other")
    save_tiny_tokenizer(tmp_path / "original")
    AutoTokenizer.from_pretrained(tmp_path / "original").save_pretrained(tmp_path / "champion")
    shutil.rmtree(tmp_path / "original")
    prepare(tmp_path, champion)
