"""Loads candidate and champion for evaluation: frozen, in evaluation mode, on the best device there is."""

from __future__ import annotations

from typing import Any

from alignment_api.spec import Precision
from alignment_trainer.models.fetch import LocalModel

__all__ = ["load_as", "load_frozen"]


def load_frozen(model: LocalModel, precision: Precision) -> Any:
    """A model as publish ships it, in the precision of the training where the device is made for it."""
    import torch

    cuda = torch.cuda.is_available()
    low = cuda and precision is Precision.BFLOAT16
    return load_as(model, torch.bfloat16 if low else torch.float32).to("cuda" if cuda else "cpu")


def load_as(model: LocalModel, dtype: Any) -> Any:
    """A model with its weights in a number format, on the CPU. dtype: torch's.

    An adapter is merged in float32 only, where that is faster and changes nothing. The steps of bfloat16 between
    neighbouring numbers are larger than most of what an adapter adds to a weight: merged there, half of a gentle
    candidate would be rounded away, and another model evaluated than the one that is published.
    """
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        model.base or model.folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
    )
    if model.adapter:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, model.folder)
        if dtype == torch.float32:
            loaded = loaded.merge_and_unload()
    return loaded.eval().requires_grad_(requires_grad=False)
