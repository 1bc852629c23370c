"""Loads candidate and champion for evaluation: frozen, in evaluation mode, on the best device there is."""

from __future__ import annotations

from typing import Any

from alignment_api.spec import Precision
from alignment_trainer.models.fetch import LocalModel

__all__ = ["load_frozen"]


def load_frozen(model: LocalModel, precision: Precision) -> Any:
    """A model with its adapter merged in memory: evaluation needs no separate adapter and runs faster without."""
    import torch
    from transformers import AutoModelForCausalLM

    cuda = torch.cuda.is_available()
    low = cuda and precision is Precision.BFLOAT16
    loaded = AutoModelForCausalLM.from_pretrained(
        model.base or model.folder,
        dtype=torch.bfloat16 if low else torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
    )
    if model.adapter:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, model.folder).merge_and_unload()
    return loaded.to("cuda" if cuda else "cpu").eval().requires_grad_(requires_grad=False)
