"""Whether a pair fits ``training.maxLength``, counted with the model's own tokenizer and chat template.

Reads ``tokenizer.json`` with the ``tokenizers`` library: importing transformers' tokenizers would load torch. A
text of fewer bytes than the limit cannot have more tokens, so most rows need no tokenizing at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from alignment_trainer.data.rows import Pair, plain
from alignment_trainer.errors import RequestError

__all__ = ["ModelText", "fits"]

_TEMPLATE_TOKENS: Final = 16
"""Special tokens that a template or tokenizer may add beyond the text itself."""


@dataclass(frozen=True)
class ModelText:
    """What prepare needs of the model: its tokenizer, and whether it has a chat template."""

    tokenizer: Any
    has_chat_template: bool
    special_tokens: frozenset[str]
    model_uri: str

    @classmethod
    def load(cls, read: Callable[[str], bytes | None], model_uri: str) -> ModelText:
        """read: content of a file of the model's folder by name, or None. Raises RequestError."""
        from tokenizers import Tokenizer

        raw = read("tokenizer.json")
        if raw is None:
            raise RequestError(
                f"Model {model_uri} has no tokenizer.json; save it with a fast tokenizer.",
                reason="TokenizerMissing",
            )
        try:
            tokenizer = Tokenizer.from_str(raw.decode("utf-8"))
            config = json.loads(read("tokenizer_config.json") or b"{}")
        except Exception as error:  # noqa: BLE001  the library raises plain Exception
            raise RequestError(
                f"The tokenizer of model {model_uri} cannot be read ({error}); save it again.",
                reason="TokenizerInvalid",
            ) from None
        template = bool(config.get("chat_template")) or read("chat_template.jinja") is not None
        special = frozenset(
            token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
        )
        return cls(tokenizer, template, special, model_uri)


def fits(model: ModelText, maximum: int) -> Callable[[Pair], tuple[str, str] | None]:
    """A test whether prompt plus the longer answer have at most ``maximum`` tokens: None, or the reason and a sentence.

    Raises RequestError at the first conversational pair when the model has no chat template.
    """
    over = ("overLong", f"prompt and longer answer have more than the {maximum} tokens of training.maxLength")

    def test(pair: Pair) -> tuple[str, str] | None:
        if pair.conversational and not model.has_chat_template:
            raise RequestError(
                f"{pair.place} is a conversation, and model {model.model_uri} has no chat template; add chat_template.jinja "
                "to the model's folder, or give prompts and answers as strings.",
                reason="ChatTemplateMissing",
            )
        prompt, answers = plain(pair.prompt), (plain(pair.chosen), plain(pair.rejected))
        limit = maximum - _TEMPLATE_TOKENS
        if len(prompt.encode()) + max(len(answer.encode()) for answer in answers) <= limit:
            return None
        longest = max(len(model.tokenizer.encode(prompt + answer).ids) for answer in answers)
        return None if longest <= (limit if pair.conversational else maximum) else over

    return test
