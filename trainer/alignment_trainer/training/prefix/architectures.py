"""Where sharing a prefix is exact: the models that were checked, and what rules one of them out.

Exact means: a token's hidden state depends on the tokens before it and on its position, and on nothing else. Attention
windows counted in packed places, states carried from token to token, experts with a capacity per batch, positions
scaled by the longest sequence at hand and virtual tokens all break that. What is not listed is not trusted.

To add a model: one entry in :data:`EXACT`; ``tests/unit/trainer/training/test_exact.py`` then compares it, in float64,
with the padded path.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["EXACT", "refusal"]

EXACT: Final = ("gemma", "gpt_neox", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3")
"""transformers' ``model_type`` of decoders whose layers are full attention, rotary positions and dense layers."""
_LENGTH_DEPENDENT: Final = ("dynamic", "longrope")
_LOGIT_CHANGES: Final = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
    "lm_head_multiplier",
)


def refusal(model: Any) -> str | None:
    """Why the prefix-shared forward is not exact for a model (with or without adapter); None where it is."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in EXACT:
        return f"model type {getattr(config, 'model_type', 'unknown')!r} is not among those checked ({', '.join(EXACT)})"
    return _config_refusal(config) or _adapter_refusal(model) or _head_refusal(model)


def _config_refusal(config: Any) -> str | None:
    layers = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if layers:
        return f"layers of type {', '.join(sorted(layers))}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"a sliding attention window of {config.sliding_window} tokens"
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind in _LENGTH_DEPENDENT:
        return f"rotary positions of type {kind}, which depend on the longest sequence in the batch"
    if getattr(config, "attention_dropout", 0.0):
        return "dropout inside attention (attention_dropout)"
    changed = [name for name in _LOGIT_CHANGES if getattr(config, name, None) not in (None, 1, 1.0)]
    return f"logits that are changed after the head ({changed[0]})" if changed else None


def _adapter_refusal(model: Any) -> str | None:
    for name, adapter in getattr(model, "peft_config", {}).items():
        if getattr(adapter, "is_prompt_learning", False):
            return f"adapter {name!r} puts virtual tokens before the prompt"
        if getattr(adapter, "lora_dropout", 0.0):
            return f"dropout inside adapter {name!r} (lora.dropout)"
    return None


def _head_refusal(model: Any) -> str | None:
    import torch

    head = model.get_output_embeddings()
    # By what it does: FSDP changes the class of every module that it spreads.
    plain = getattr(type(head), "forward", None) is torch.nn.Linear.forward
    return None if plain else f"a language-model head of type {type(head).__name__}"
