"""A model's chat template, rendered as transformers renders it, without importing transformers (which loads torch).

Templates come with models from elsewhere: they run in jinja2's immutable sandbox and see messages only. Where transformers
renders, in training and in evaluation, it does so by :func:`apply_chat_template`: all tell a template the same day.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from alignment_trainer.data.rows import RowError, tools_of
from alignment_trainer.errors import RequestError

__all__ = ["ChatTemplate", "apply_chat_template"]

_TODAY: Final = datetime(2026, 12, 30, tzinfo=UTC)
"""What templates are told the day is: what fits, is trained and is known of a reference must not depend on when it is asked."""


def apply_chat_template(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> Any:
    """What the tokenizer's own method makes of messages and their tools, but for the day."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    tools = tools_of(messages)
    # transformers keeps what it compiled, and takes no function from its callers; a template's own globals go first.
    compiled = _compile_jinja_template(tokenizer.get_chat_template(tools=tools))
    compiled.globals["strftime_now"] = _TODAY.strftime
    return tokenizer.apply_chat_template(messages, tools=tools, **options)


class ChatTemplate:
    """A compiled template. tokens: bos_token, eos_token and others that a template may name."""

    def __init__(self, source: str, tokens: dict[str, str], model_uri: str) -> None:
        """Raises RequestError for what is no template."""
        from jinja2 import TemplateError

        self._tokens = tokens
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise RequestError(
                f"The chat template of model {model_uri} cannot be read (line {getattr(error, 'lineno', '?')}); correct it.",
                reason="ChatTemplateInvalid",
            ) from None

    def render(self, messages: list[dict[str, Any]]) -> str:
        """Messages as the text that the model sees. Raises RowError when the template refuses them."""
        from jinja2 import TemplateError

        try:
            text: str = self._template.render(
                messages=messages, tools=tools_of(messages), add_generation_prompt=False, **self._tokens
            )
        except (
            TemplateError,
            TypeError,
            ValueError,
            LookupError,
            ArithmeticError,
            AttributeError,
            RuntimeError,
        ):
            raise RowError(
                "templateRefuses",
                "the model's chat template refuses these messages (roles, their order, tools)",
            ) from None
        return text

    @classmethod
    def load(
        cls, read: Callable[[str], bytes | None], config: dict[str, Any], model_uri: str
    ) -> ChatTemplate | None:
        """The template of a model folder: ``chat_template.jinja``, else of ``tokenizer_config.json``; None without one."""
        file = read("chat_template.jinja")
        source = file.decode("utf-8", "replace") if file is not None else config.get("chat_template")
        if isinstance(source, list):  # several by name, as older models have them
            named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
            source = named.get("default") or next(iter(named.values()), None)
        if not isinstance(source, str) or not source:
            return None
        return cls(source, _tokens(config), model_uri)


def _tokens(config: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False} | options)


def _environment() -> Any:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks the assistant's tokens for training libraries; here it is what it encloses."""

        tags = {"generation"}  # noqa: RUF012  jinja2's own way

        def parse(self, parser: Any) -> Any:
            """The enclosed nodes."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = _TODAY.strftime
    return environment
