"""Whether a pair fits ``training.maxLength``, counted with the model's own tokenizer and chat template.

Reads ``tokenizer.json`` with the ``tokenizers`` library: importing transformers' tokenizers would load torch. A
text of fewer bytes than the limit cannot have more tokens, so most rows need no tokenizing at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from alignment_trainer.data.chat_template import ChatTemplate
from alignment_trainer.data.rows import Pair, RowError, Text
from alignment_trainer.errors import RequestError

__all__ = ["ModelText", "fits"]

_SPECIAL_TOKENS: Final = 4
"""Most tokens that a tokenizer adds around a text (begin, end, a space before the first word)."""


@dataclass(frozen=True)
class ModelText:
    """What prepare needs of the model: its tokenizer and its chat template, where it has one."""

    tokenizer: Any
    chat_template: ChatTemplate | None
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
            config = _object(read("tokenizer_config.json") or b"{}")
        except Exception as error:  # noqa: BLE001  the library raises plain Exception
            raise RequestError(
                f"The tokenizer of model {model_uri} cannot be read ({error}); save it again.",
                reason="TokenizerInvalid",
            ) from None
        # A tokenizer.json may bring limits of its own; what is counted here is the whole text.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        special = frozenset(
            token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
        )
        return cls(tokenizer, ChatTemplate.load(read, config, model_uri), special, model_uri)

    def tokens_at_most(self, text: str) -> int:
        """An upper bound that costs nothing: bytes, where the tokenizer does not rewrite the text first."""
        rewrites = self.tokenizer.normalizer is not None and not text.isascii()
        return _SPECIAL_TOKENS + (8 if rewrites else 1) * len(text.encode())

    def tokens(self, text: str, *, rendered: bool) -> int:
        """Tokens of a text. rendered: a template has put in what marks its beginning and end."""
        ids = self.tokenizer.encode(text, add_special_tokens=not rendered).ids
        return len(ids) + (0 if rendered else 1)  # training ends an answer with the end token


def _object(raw: bytes) -> dict[str, Any]:
    wire = json.loads(raw)
    if not isinstance(wire, dict):
        raise TypeError("tokenizer_config.json is not a JSON object")
    return wire


def fits(model: ModelText, maximum: int) -> Callable[[Pair], tuple[str, str] | None]:
    """A test whether prompt plus the longer answer have at most ``maximum`` tokens: None, or the reason and a sentence.

    Raises RequestError at the first conversational pair when the model has no chat template.
    """
    over = ("overLong", f"prompt and longer answer have more than the {maximum} tokens of training.maxLength")

    def test(pair: Pair) -> tuple[str, str] | None:
        try:
            texts = [_whole(model, pair, side) for side in (pair.chosen, pair.rejected)]
        except RowError as refusal:
            return refusal.code, refusal.message
        if all(model.tokens_at_most(text) <= maximum for text in texts):
            return None
        longest = max(model.tokens(text, rendered=pair.conversational) for text in texts)
        return None if longest <= maximum else over

    return test


def _whole(model: ModelText, pair: Pair, side: Text) -> str:
    if isinstance(pair.prompt, str):
        assert isinstance(side, str)  # noqa: S101  both sides of a pair have one form
        return pair.prompt + side
    if model.chat_template is None:
        raise RequestError(
            f"{pair.place} is a conversation, and model {model.model_uri} has no chat template; add chat_template.jinja "
            "to the model's folder, or give prompts and answers as strings.",
            reason="ChatTemplateMissing",
        )
    assert not isinstance(side, str)  # noqa: S101
    return model.chat_template.render(pair.prompt + side)
