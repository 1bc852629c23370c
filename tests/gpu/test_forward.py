"""The prefix-shared forward on a GPU: exact in float64, and in bfloat16 as near to exact as TRL's own."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from alignment_trainer.training.prefix import adapter, attention, forward
from alignment_trainer.training.prefix.architectures import EXACT
from alignment_trainer.training.prefix.packing import Segment, pack
from support.preference import VOCABULARY, Sides, batch_of, install_padded, random_model

HEADS = {"one group": (8, 8, 64), "groups": (32, 8, 64), "wide": (32, 8, 128)}
"""Query heads, key heads, head dimension."""
SHAPES = {"edits": (200, 80, 60), "nothing in common": (200, 80, 0), "no prompt": (0, 40, 20)}
"""Tokens of the prompt, of an answer, and how many of these both sides have in common."""


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_bfloat16_takes_the_variable_length_kernel(device: torch.device, heads: tuple[int, int, int]) -> None:
    chosen = attention.choose_backend(device, torch.bfloat16, *heads)
    assert chosen is attention.varlen_segments


def test_float32_takes_plain_attention(device: torch.device) -> None:
    assert attention.choose_backend(device, torch.float32, 8, 8, 64) is attention.sdpa_segments


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_the_kernel_is_as_near_to_exact_as_plain_attention(
    device: torch.device, heads: tuple[int, int, int]
) -> None:
    segments = (
        Segment(0, 700, 0, 0),
        Segment(700, 900, 0, 350),
        Segment(900, 901, 900, 900),
        Segment(901, 1400, 900, 901),
        Segment(1400, 1403, 901, 1400),
    )
    query_heads, key_heads, size = heads
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, count, 1403, size, generator=generator).to(device, torch.bfloat16)
        for count in (query_heads, key_heads, key_heads)
    ]
    weights = torch.randn(1, 1403, query_heads, size, generator=generator).to(device)

    def results(backend: Any, kind: torch.dtype) -> list[torch.Tensor]:
        parts = [x.to(kind).requires_grad_() for x in inputs]
        out = backend(*parts, segments, size**-0.5)
        return [x.double() for x in (out, *torch.autograd.grad((out * weights.to(kind)).sum(), parts))]

    exact = results(attention.sdpa_segments, torch.float64)
    ours, plain = (
        [
            float((a - b).norm() / b.norm())
            for a, b in zip(results(backend, torch.bfloat16), exact, strict=True)
        ]
        for backend in (attention.varlen_segments, attention.sdpa_segments)
    )
    for mine, theirs in zip(ours, plain, strict=True):
        assert mine <= 1.5 * theirs + 1e-3


def batch(shape: tuple[int, int, int], device: torch.device) -> dict[str, torch.Tensor]:
    draw = random.Random(0)

    def tokens(number: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(number)]

    prompt, answer, common = shape
    sides: list[Sides] = []
    for number in range(4):
        start = tokens(common)
        sides.append(
            (
                tokens(prompt),
                start + tokens(answer - common + number) + [2],
                start + tokens(answer - common) + [2],
            )
        )
    return {name: value.to(device) for name, value in batch_of(sides).items()}


def scored(
    model: Any, batch: dict[str, torch.Tensor], **extra: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities, and the gradients of their weighted sum."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    out = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=labels,
        use_cache=False,
        fused_lm_head=True,
        **extra,
    ).log_probs
    weights = torch.linspace(-1, 1, out.numel(), device=out.device, dtype=out.dtype).view_as(out)
    (out * weights).sum().backward()
    return out.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def packed(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, Any]:
    parts = (batch[name].cpu() for name in ("input_ids", "attention_mask", "completion_mask"))
    return {forward.KEY: pack(*parts).to(device)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("model_type", EXACT)
def test_float64_is_exact(model_type: str, shape: tuple[int, int, int], device: torch.device) -> None:
    pairs = batch(shape, device)
    padded, shared = (random_model(model_type, positions=512).to(device) for _ in range(2))
    install_padded(padded)
    forward.install(shared, attention.backend_for(shared.config, device, torch.float64))
    wanted, gradients = scored(padded, pairs)
    found, ours = scored(shared, pairs, **packed(pairs, device))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert float((ours[name] - gradient).abs().max() / gradient.abs().max()) <= 1e-9, name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bfloat16_is_as_near_to_exact_as_trl(shape: tuple[int, int, int], device: torch.device) -> None:
    from trl.trainer.utils import add_fused_lm_head

    pairs = batch(shape, device)
    exact, theirs, ours = (random_model("llama", positions=512).to(device) for _ in range(3))
    install_padded(exact)
    add_fused_lm_head(theirs.float())
    forward.install(ours.float(), attention.backend_for(ours.config, device, torch.bfloat16))
    wanted, gradients = scored(exact, pairs)
    with torch.autocast("cuda", torch.bfloat16):
        trl, trl_gradients = scored(theirs, pairs)
        found, our_gradients = scored(ours, pairs, **packed(pairs, device))

    def gap(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one.double() - other).norm() / other.norm())

    assert gap(found, wanted) <= 1.5 * gap(trl, wanted)
    for name, gradient in gradients.items():
        assert gap(our_gradients[name], gradient) <= 1.5 * gap(trl_gradients[name], gradient) + 1e-3, name


@pytest.mark.parametrize("low_base", [True, False], ids=["base in bfloat16", "base in float32"])
def test_lora_layers_in_one_step_are_as_near_to_exact_as_pefts(low_base: bool, device: torch.device) -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        nn.Sequential(nn.Linear(256, 512), nn.Linear(512, 128, bias=False)),
        LoraConfig(r=8, lora_alpha=16, target_modules=["0", "1"]),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # a fresh one is zero and hides mistakes
                parameter.normal_(std=0.1)
    model.to(device)
    if low_base:
        for name, parameter in model.named_parameters():
            if "lora" not in name:
                parameter.data = parameter.data.bfloat16()
    x = torch.randn(64, 256, device=device).bfloat16()

    def results(kind: torch.dtype | None) -> list[torch.Tensor]:
        model.zero_grad()
        y = x.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=kind is None):
            out = model(y if kind is None else y.to(kind))
        (out.float() if kind is None else out).square().sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert y.grad is not None
        return [t.detach().double().clone() for t in (out, y.grad, *grads)]

    theirs = results(None)
    layers = adapter.install(model)
    assert len(layers) == 2
    with torch.autocast("cuda", torch.bfloat16):
        assert adapter._fit(x, layers[0].base_layer.weight, layers[0].lora_A["default"].weight)
    ours = results(None)
    adapter.remove(layers)
    model.double()
    exact = results(torch.float64)
    for mine, other, right in zip(ours, theirs, exact, strict=True):
        assert float((mine - right).norm()) <= 1.5 * float((other - right).norm()) + 1e-3 * float(
            right.norm()
        )
