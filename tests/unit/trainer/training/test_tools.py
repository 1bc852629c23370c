"""The tools of a conversation reach the model's chat template: in training, in the warm start and in evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from alignment_trainer.data.rows import Pair, Place
from alignment_trainer.evaluation.scoring import encode, encode_prompt
from alignment_trainer.training.tokens import supervised, tokenize_pair
from support.tiny import TEMPLATE, save_tiny_tokenizer

TOOLS = [{"type": "function", "function": {"name": "dose", "parameters": {"weight": {"type": "number"}}}}]
ANSWER = [{"role": "assistant", "content": "5 mg"}]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    save_tiny_tokenizer(tmp_path)
    found = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    found.chat_template = "{% if tools %}[{{ tools[0]['function']['name'] }}]{% endif %}" + TEMPLATE
    return found


def pair(**first: Any) -> Pair:
    prompt = [{"role": "user", "content": "How much?"} | first]
    rejected = [{"role": "assistant", "content": "50 mg"}]
    return Pair(id="1", place=Place("", 1), prompt=prompt, chosen=ANSWER, rejected=rejected)


def test_training_and_evaluation_show_the_model_the_same_tools(tokenizer: Any) -> None:
    ids = tokenize_pair(pair(tools=TOOLS), tokenizer)
    text = tokenizer.decode(ids["prompt_ids"])
    assert text == "[dose]<user>How much?\n<assistant>"
    assert encode_prompt(tokenizer, pair(tools=TOOLS).prompt) == ids["prompt_ids"]
    whole, start = encode(tokenizer, pair(tools=TOOLS).prompt, ANSWER, 200)
    assert whole == [*ids["prompt_ids"], *ids["chosen_ids"]]
    assert start == len(ids["prompt_ids"])
    assert tokenizer.decode(tokenize_pair(pair(), tokenizer)["prompt_ids"]) == text.removeprefix("[dose]")


def test_the_warm_start_takes_tools_of_any_shape_and_learns_the_answer_alone(
    tokenizer: Any, tmp_path: Path
) -> None:
    other = [{"type": "function", "function": {"name": "note", "parameters": {"text": {"enum": ["a"]}}}}]
    pairs = [pair(tools=TOOLS), pair(), pair(tools=other)]
    rows = supervised(pairs, tokenizer, tmp_path / "supervised.arrow", maximum=40)
    assert len(rows) == 3
    for row, one in zip(rows, pairs, strict=True):
        whole, start = encode(tokenizer, one.prompt, ANSWER, 40)
        assert row["input_ids"] == whole
        assert row["labels"] == [-100] * start + whole[start:]
