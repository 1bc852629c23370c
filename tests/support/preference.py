"""Preference batches and float64 models for comparing the prefix-shared forward with the padded path."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["Sides", "as_float64", "batch_of", "install_padded", "random_model"]

VOCABULARY = 64
PAD = 0
Sides = tuple[list[int], list[int], list[int]]
"""Token ids of prompt, chosen and rejected."""
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_SPECIAL: dict[str, dict[str, Any]] = {
    "gemma": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt_neox": {"hidden_act": "gelu"},
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "olmo2": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2, "use_sliding_window": False},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8, "use_sliding_window": False},
    "smollm3": {"num_key_value_heads": 2, "use_sliding_window": False},
}


def random_model(model_type: str, *, seed: int = 0, positions: int = 256) -> Any:
    """A two-layer decoder of a type of ``EXACT`` with random weights, in float64 throughout. positions: at most."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    shape = _SHAPE | {"max_position_embeddings": positions} | _SPECIAL[model_type]
    config = AutoConfig.for_model(model_type, **shape)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # no parameter stays at a value that hides it
    return as_float64(model)


def as_float64(model: Any) -> Any:
    """In float64, also inside the norms, which transformers computes in float32 whatever the model's type."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(_norm, module)
    return model.double()


def _norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    epsilon = getattr(self, "variance_epsilon", getattr(self, "eps", 1e-6))
    normal = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
    return normal * (1 + self.weight if "Gemma" in type(self).__name__ else self.weight)


def batch_of(sides: Sequence[Sides], *, maximum: int | None = None) -> dict[str, torch.Tensor]:
    """TRL's padded batch of pairs, with reference log-probabilities that are not the policy's."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    examples = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in sides]
    batch: dict[str, torch.Tensor] = DataCollatorForPreference(pad_token_id=PAD, max_length=maximum)(examples)
    generator = torch.Generator().manual_seed(len(sides))
    for name, sign in (("ref_chosen_logps", 1), ("ref_rejected_logps", -1)):
        lengths = batch["completion_mask"].sum(1).chunk(2)[0 if sign > 0 else 1]
        batch[name] = -4.0 * lengths + torch.randn(len(sides), generator=generator, dtype=torch.float64)
    return batch


def install_padded(model: nn.Module) -> None:
    """TRL's fused call answered by the plain model on the padded batch: every logit, in float64."""
    from trl.trainer.utils import FusedCausalLMOutput

    original = model.forward

    def forward(_self: Any, *, labels: Any = None, fused_lm_head: bool = False, **arguments: Any) -> Any:
        assert fused_lm_head
        arguments.pop("packed", None)
        logits = original(**arguments).logits[:, :-1].double()
        wanted = labels[:, 1:]
        mask = wanted != -100
        logs = torch.log_softmax(logits, -1)
        chances = logs.exp()
        fields = {
            "log_probs": logs.gather(-1, wanted.clamp(min=0)[..., None]).squeeze(-1),
            "entropy": -(chances * logs).sum(-1),
            "mean_logits": logits.mean(-1),
            "log_sum_sq_probs": chances.pow(2).sum(-1).log(),
        }
        top1 = (logits.argmax(-1) == wanted) & mask
        return FusedCausalLMOutput(
            is_top1=top1, **{name: value.masked_fill(~mask, 0) for name, value in fields.items()}
        )

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]
