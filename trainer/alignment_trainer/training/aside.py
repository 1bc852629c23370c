"""What a base brings along and must not act while it is trained: set aside when it is loaded, back in its candidate's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["save_whole", "set_aside"]

_NOISE: Final = ("drop", "jitter")
"""Parts of the names under which models hold the rates of what is random in training mode only."""


@dataclass
class _Aside:
    """generation: the base's own GenerationConfig. entries: of its configuration, as they were."""

    generation: Any
    entries: list[tuple[Any, str, Any]] = field(default_factory=list)


def set_aside(base: Any) -> None:
    """Dropout and sampling settings of a base that was just loaded, before any adapter is on it.

    Dropout, also of whole layers, and the jitter of routers: the reference is measured without, and rewards would be of
    the dice, not of the pairs. It stands in modules (``nn.Dropout``), in numbers that a forward pass hands to a function
    (``attention_dropout`` of Llama, ``dropout`` of OPT) and in the configuration, which some passes and
    ``prefix.architectures`` read; TRL's ``disable_dropout`` knows the modules alone. An adapter's own comes later and stays.

    Sampling settings: nobody samples here, and transformers refuses to save some that are published (a temperature
    beside ``do_sample: false``) once the trainer has put the tokenizer's tokens among them. Those tokens are left.
    ``use_cache``, which the trainer turns off, is noted.
    """
    from transformers import GenerationConfig

    aside = _Aside(base.generation_config)
    for module in base.modules():
        for name in _rates(module):
            setattr(module, name, 0.0)
    for config in _configs(base.config):
        rates = _rates(config)
        noted = [*rates, "use_cache"] if "use_cache" in vars(config) else rates
        aside.entries += [(config, name, getattr(config, name)) for name in noted]
        for name in rates:
            setattr(config, name, 0.0)
    base.generation_config = GenerationConfig(**_tokens(base.generation_config))
    base.aside = aside


def save_whole(policy: Any, folder: Path, *, leads: bool) -> None:
    """Write full weights, with what was set aside in their configuration again. leads: this process writes."""
    aside: _Aside = policy.aside
    for config, name, value in aside.entries:
        setattr(config, name, value)
    policy.save_pretrained(folder, is_main_process=leads)
    if leads:
        # With the tokens that the trainer has seen to, and past the checks that the base's own file would not pass.
        for name, token in _tokens(policy.generation_config).items():
            setattr(aside.generation, name, token)
        aside.generation.to_json_file(folder / "generation_config.json")


def _rates(owner: Any) -> list[str]:
    """Names of the rates above 0 that a module or a configuration holds."""
    dropout = "Dropout" in type(owner).__name__
    return [
        name
        for name, value in vars(owner).items()
        if isinstance(value, float)
        and value > 0
        and ((dropout and name == "p") or any(part in name for part in _NOISE))
    ]


def _configs(config: Any) -> Iterator[Any]:
    """A configuration and those in it."""
    from transformers import PreTrainedConfig

    yield config
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig):
            yield from _configs(value)


def _tokens(generation: Any) -> dict[str, Any]:
    return {name: getattr(generation, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
