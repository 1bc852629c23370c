"""Generated answers: where they end, and whose distribution they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment_trainer.evaluation.generation import Answer, end_tokens, generate
from support.tiny import save_tiny_model

CHAT = [{"role": "user", "content": "how are you?"}]
CLOSED = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}<turn_ends>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def loaded(tmp_path: Path) -> tuple[Any, Any]:
    """A model whose turns end with a token that is not the tokenizer's end."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_tiny_model(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn_ends>"]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.chat_template = CLOSED
    return model, tokenizer


def answers(model: Any, tokenizer: Any, prompts: list[Any], **settings: Any) -> list[Answer]:
    options: dict[str, Any] = {"temperature": 1.0, "maximum": 12, "seed": 0, "between": lambda _: None}
    return generate(model, tokenizer, prompts, **options | settings)


def always(model: Any, token: int) -> None:
    """Make the model write this token and nothing else: the last norm is constant, and one row of the head is large."""
    import torch

    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.model.norm.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.lm_head.out_features))
        model.lm_head.bias[token] = 1000.0


def test_an_answer_ends_where_the_chat_template_closes_the_turn(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    closes = tokenizer.convert_tokens_to_ids("<turn_ends>")
    assert end_tokens(model, tokenizer, [CHAT]) == {tokenizer.eos_token_id, closes}
    always(model, closes)
    (answer,) = answers(model, tokenizer, [CHAT])
    assert answer == Answer((closes,), "", finished=True)


def test_an_answer_ends_with_each_token_that_the_models_folder_names(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, 65]
    assert end_tokens(model, tokenizer, ["Note:"]) == {tokenizer.eos_token_id, 65}
    always(model, 65)
    (answer,) = answers(model, tokenizer, ["Note:"])
    assert answer == Answer((65,), "", finished=True)


def test_a_template_that_marks_no_end_leaves_the_tokenizers(loaded: tuple[Any, Any]) -> None:
    from support.tiny import TEMPLATE

    model, tokenizer = loaded
    tokenizer.chat_template = TEMPLATE
    assert end_tokens(model, tokenizer, [CHAT]) == {tokenizer.eos_token_id}


def test_penalties_of_the_models_folder_do_not_change_the_samples(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    plain = answers(model, tokenizer, ["Note:", "Visit:"])
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.no_repeat_ngram_size = 1
    model.generation_config.min_p = 0.9
    assert answers(model, tokenizer, ["Note:", "Visit:"]) == plain
    assert model.generation_config.repetition_penalty == 5.0
