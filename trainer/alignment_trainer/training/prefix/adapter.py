"""LoRA layers in one step: ``x Wᵀ + s (x Aᵀ) Bᵀ`` and its gradients without a pass over the output for each sign.

PEFT adds the adapter's share in five operations, each of which reads and writes (T, out) values, and under autocast
casts the input up and down again; for a small model that costs as much as the adapter's arithmetic. What is computed
is the same. Layers with anything else to them (dropout, several adapters, DoRA, biases in the adapter) stay PEFT's.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import torch
from torch import nn

from alignment_trainer.training.prefix.products import product

__all__ = ["install", "remove"]


def install(model: Any) -> list[Any]:
    """Put the one-step forward on every plain LoRA layer below ``model``; returns those layers."""
    if "peft" not in sys.modules:
        return []  # nobody has made such a layer; loading PEFT takes half a second
    from peft.tuners.lora.layer import Linear

    layers = [module for module in model.modules() if type(module) is Linear]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)
    return layers


def remove(layers: list[Any]) -> None:
    """Put PEFT's forward back."""
    for layer in layers:
        del layer.forward


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    name = None if args or kwargs else _only_adapter(layer)
    if name is not None:
        base, a, b = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
        if _fit(x, base.weight, a, b):
            out: torch.Tensor = _Adapted.apply(x, base.weight, base.bias, a, b, layer.scaling[name])
            return out
    theirs: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
    return theirs


def _only_adapter(layer: Any) -> str | None:
    """Name of the adapter, where one is active and it is plain LoRA."""
    if layer.disable_adapters or layer.merged:
        return None
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or names[0] in layer.lora_variant or getattr(layer.lora_dropout[names[0]], "p", False):
        return None
    a, b = layer.lora_A[names[0]], layer.lora_B[names[0]]
    plain = all(type(part) is nn.Linear for part in (layer.base_layer, a, b))
    return names[0] if plain and a.bias is None and b.bias is None else None


def _fit(*tensors: torch.Tensor) -> bool:
    """Plain tensors on one device that autocast brings to one format, or that have one."""
    devices = {tensor.device for tensor in tensors}
    one_format = torch.is_autocast_enabled(tensors[0].device.type) or len({x.dtype for x in tensors}) == 1
    return one_format and len(devices) == 1 and all(type(x) in (torch.Tensor, nn.Parameter) for x in tensors)


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        device = x.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            flat = x.reshape(-1, x.shape[-1]).to(kind)
            out = product(flat, weight.to(kind).t())
            if bias is not None:
                out += bias.to(kind)
            inner = product(flat, a.to(kind).t())
            out.addmm_(inner, b.to(kind).t(), alpha=scaling)
        ctx.scaling, ctx.kind, ctx.outer = scaling, kind, x.dtype
        ctx.save_for_backward(flat, inner, weight, bias, a, b)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        flat, inner, weight, bias, a, b = ctx.saved_tensors
        wanted, kind, scaling = ctx.needs_input_grad, ctx.kind, ctx.scaling
        grad_x = grad_weight = grad_bias = None
        with torch.autocast(grad.device.type, enabled=False):
            rows = grad.reshape(-1, grad.shape[-1]).to(kind)
            narrow = product(rows, b.to(kind)).mul_(scaling)
            if wanted[0]:
                grad_x = product(rows, weight.to(kind)).addmm_(narrow, a.to(kind))
                grad_x = grad_x.view(*grad.shape[:-1], -1).to(ctx.outer)
            if wanted[1]:
                grad_weight = product(rows.t(), flat).to(weight.dtype)
            if wanted[2]:
                grad_bias = rows.sum(0).to(bias.dtype)
            grad_a = product(narrow.t(), flat).to(a.dtype) if wanted[3] else None
            # The wide factor on the right: that is the way round in which the product is fast.
            grad_b = product(inner.t(), rows).t().mul(scaling).to(b.dtype) if wanted[4] else None
        return grad_x, grad_weight, grad_bias, grad_a, grad_b, None
