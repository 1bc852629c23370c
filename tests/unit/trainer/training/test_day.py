"""Templates that print the day print one and the same: nothing in a run depends on the day on which it is carried out."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from alignment_trainer.data.chat_template import ChatTemplate, apply_chat_template
from alignment_trainer.data.rows import Pair, Place
from alignment_trainer.evaluation.scoring import encode, encode_prompt
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.training.tokens import tokenize_pair
from support.tiny import TEMPLATE, save_tiny_tokenizer
from support.trainstage import TrainStage

DATED = "{{ strftime_now('%d %b %Y') }}\n" + TEMPLATE
TOOLS = [{"type": "function", "function": {"name": "dose"}}]


def pair(number: int, **first: Any) -> Pair:
    return Pair(
        id=str(number),
        place=Place("", number),
        prompt=[{"role": "user", "content": f"How much of {number}?"} | first],
        chosen=[{"role": "assistant", "content": "5 mg"}],
        rejected=[{"role": "assistant", "content": "50 mg"}],
    )


class Calendar:
    """The clock of transformers' templates. day: of December."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.day = 1
        monkeypatch.setattr(chat_template_utils, "datetime", self)

    def now(self) -> datetime:
        return datetime(2030, 12, self.day)  # noqa: DTZ001  as transformers' own


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    return Calendar(monkeypatch)


@pytest.mark.parametrize(
    "template",
    [DATED, {"default": TEMPLATE + "d", "tool_use": DATED}, {"default": DATED, "tool_use": TEMPLATE + "t"}],
    ids=["one template", "that for tools", "the other of two"],
)
def test_training_and_evaluation_tell_a_template_the_day_that_prepare_told_it(
    calendar: Calendar, tmp_path: Path, template: Any
) -> None:
    save_tiny_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = template
    dated = template == DATED or template["tool_use"] == DATED
    one = pair(1, tools=TOOLS) if dated else pair(1)
    assert isinstance(one.prompt, list)
    assert isinstance(one.chosen, list)
    prepared = ChatTemplate(DATED, {}, "").render(one.prompt + one.chosen)
    for calendar.day in (1, 2):
        ids = tokenize_pair(one, tokenizer)
        assert tokenizer.decode([*ids["prompt_ids"], *ids["chosen_ids"]]) == prepared
        assert encode_prompt(tokenizer, one.prompt) == ids["prompt_ids"]
        assert encode(tokenizer, one.prompt, one.chosen, 200)[0] == [*ids["prompt_ids"], *ids["chosen_ids"]]
        assert apply_chat_template(tokenizer, one.prompt + one.chosen, tokenize=False) == prepared


@pytest.mark.slow
def test_a_cycle_on_another_day_has_the_same_losses_and_computes_no_reference_anew(
    calendar: Calendar, tmp_path: Path
) -> None:
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    config = tmp_path / "base" / "tokenizer_config.json"
    wire = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(wire | {"chat_template": DATED}), encoding="utf-8")
    model = upload_folder(tmp_path / "base", stage.root + "dated/", stage.stores(stage.root)).uri
    pairs = [pair(number) for number in range(16)]
    first, second = (
        stage.run(f"day-{calendar.day}", pairs, model=model, lora={}, learningRate=1e-2)
        for calendar.day in (1, 2)
    )
    assert first.record["reference"] == {"pairs": 16, "cached": 0}
    assert second.record["reference"] == {"pairs": 16, "cached": 16}
    assert second.losses == first.losses
