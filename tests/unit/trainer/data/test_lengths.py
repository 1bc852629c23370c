"""Whether a pair fits: counted as training counts, with the model's own tokenizer and template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment_trainer.data.chat_template import ChatTemplate, apply_chat_template
from alignment_trainer.data.lengths import ModelText, fits
from alignment_trainer.data.rows import Pair, Place, RowError, Text
from alignment_trainer.errors import RequestError
from support.tiny import save_tiny_tokenizer

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How far is the <b>moon</b>?"},
    {"role": "assistant", "content": "Far."},
]
LLAMA = (
    "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n  {%- set system = messages[0]['content']|trim %}\n"
    "  {%- set messages = messages[1:] %}\n{%- endif %}\n<|s|>{{ system }} {{ strftime_now('%Y') }}\n"
    "{% for message in messages %}\n  {% if loop.index > 5 %}{% break %}{% endif %}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}\n"
    "{% else %}[{{ message | tojson }}]{% endif %}{% endfor %}"
)
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0]['content'] }}"


def text_of(folder: Path, *, template: str | None = None) -> ModelText:
    save_tiny_tokenizer(folder, chat_template=True)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return text_of_saved(folder)


def text_of_saved(folder: Path) -> ModelText:
    return ModelText.load(
        lambda name: (folder / name).read_bytes() if (folder / name).exists() else None, "file:///m/"
    )


def pair_of(prompt: Text, chosen: Text, rejected: Text) -> Pair:
    return Pair(id="", place=Place("file:///x", 1), prompt=prompt, chosen=chosen, rejected=rejected)


@pytest.mark.parametrize("template", [None, LLAMA], ids=["plain", "as of llama"])
def test_conversations_are_rendered_as_transformers_renders_them(
    tmp_path: Path, template: str | None
) -> None:
    from transformers import AutoTokenizer

    ours = text_of(tmp_path, template=template)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert ours.chat_template is not None
    assert ours.chat_template.render(TURNS) == apply_chat_template(theirs, TURNS, tokenize=False)
    ids = apply_chat_template(theirs, TURNS, return_dict=True)["input_ids"]
    assert ours.tokens(ours.chat_template.render(TURNS), rendered=True) == len(ids)


@pytest.mark.parametrize("length", [10, 300, 5000])
def test_a_string_pair_fits_up_to_the_last_token(tmp_path: Path, length: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_saved(tmp_path))
    words = ("moon shine " * 1000)[:length]
    whole = len(tokenizer(words + " ok" + tokenizer.eos_token)["input_ids"])
    model = text_of(tmp_path)
    assert fits(model, whole)(pair_of(words, " ok", " k")) is None
    assert fits(model, whole)(pair_of(words, " k", " ok")) is None
    refused = fits(model, whole - 1)(pair_of(words, " ok", " k"))
    assert refused is not None
    assert refused[0] == "overLong"
    assert str(whole - 1) in refused[1]


def _saved(folder: Path) -> Path:
    save_tiny_tokenizer(folder)
    return folder


def test_short_texts_are_never_tokenized(tmp_path: Path) -> None:
    model = text_of(tmp_path)

    class Refusing:
        normalizer = None

        def encode(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("tokenized")

    quick = ModelText(Refusing(), model.chat_template, model.special_tokens, "")
    assert fits(quick, 100)(pair_of("a" * 60, "b" * 30, "c")) is None
    with pytest.raises(AssertionError, match="tokenized"):
        fits(quick, 100)(pair_of("a" * 60, "b" * 50, "c"))


def test_messages_that_the_template_refuses_are_left_out_with_a_reason(tmp_path: Path) -> None:
    model = text_of(tmp_path, template=STRICT)
    refused = fits(model, 100)(pair_of(TURNS[:2], TURNS[2:], TURNS[2:]))
    assert refused is not None
    assert refused[0] == "templateRefuses"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{% for _ in range(10**9) %}x{% endfor %}",
        "{{ messages[0].update({'a': 1}) }}",
        "{{ ''.__class__.__base__ }}{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_template_cannot_reach_out_of_its_sandbox(source: str) -> None:
    with pytest.raises(RowError):
        ChatTemplate(source, {}, "file:///m/").render([dict(TURNS[1])])


def test_a_template_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="file:///m/") as refused:
        text_of(tmp_path, template="{% for %}")
    assert refused.value.reason == "ChatTemplateInvalid"


def test_named_templates_of_older_models_are_found() -> None:
    config = {
        "chat_template": [
            {"name": "tool_use", "template": "T"},
            {"name": "default", "template": "D{{ eos_token }}"},
        ],
        "eos_token": {"content": "</s>"},
    }
    found = ChatTemplate.load(lambda _: None, config, "")
    assert found is not None
    assert found.render(TURNS) == "D</s>"
    assert ChatTemplate.load(lambda _: None, {}, "") is None


def test_a_conversation_without_a_template_names_row_and_remedy(tmp_path: Path) -> None:
    save_tiny_tokenizer(tmp_path, chat_template=False)
    model = ModelText.load(
        lambda name: (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None, "file:///m/"
    )
    with pytest.raises(
        RequestError, match=r"file:///x:1 is a conversation, and model file:///m/ has no chat template"
    ) as refused:
        fits(model, 100)(pair_of(TURNS[:2], TURNS[2:], TURNS[2:]))
    assert refused.value.reason == "ChatTemplateMissing"


def test_a_limit_saved_in_the_tokenizer_does_not_hide_long_rows(tmp_path: Path) -> None:
    save_tiny_tokenizer(tmp_path)
    wire = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    wire["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(wire), encoding="utf-8")
    model = ModelText.load(
        lambda name: (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None, ""
    )
    assert fits(model, 20)(pair_of("a" * 60, "b", "c")) is not None


@pytest.mark.parametrize("config", ["[1, 2]", '"text"', "{", "[]"])
def test_a_tokenizer_configuration_that_is_no_object_is_refused_by_name(tmp_path: Path, config: str) -> None:
    save_tiny_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(RequestError, match="The tokenizer of model file:///m/ cannot be read") as refused:
        text_of_saved(tmp_path)
    assert refused.value.reason == "TokenizerInvalid"
