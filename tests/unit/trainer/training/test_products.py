"""The faster float32 products give what torch gives, and take nothing that is not theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import linear

from alignment_trainer.training.prefix import forward, products
from alignment_trainer.training.prefix.attention import block_segments
from alignment_trainer.training.prefix.packing import pack
from support.preference import batch_of, random_model


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours on any processor, and for products of any size: what is compared is not how fast they are."""
    monkeypatch.setattr(products, "available", lambda: True)
    monkeypatch.setattr(products, "_LEAST_WORK", 0)


def gradients(out: torch.Tensor, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    return torch.autograd.grad((out * weight).sum(), inputs)


@pytest.mark.parametrize("bias", [True, False], ids=["with bias", "without bias"])
@pytest.mark.parametrize("sizes", [(64, 24), (16, 96)], ids=["to fewer", "to more"])
def test_output_and_gradients_are_torchs(sizes: tuple[int, int], bias: bool, everywhere: None) -> None:
    torch.manual_seed(0)
    inner, outer = sizes
    x, w, b = torch.randn(2, 33, inner), torch.randn(outer, inner), torch.randn(outer)
    inputs = [part.requires_grad_() for part in ((x, w, b) if bias else (x, w))]
    with products.FasterLinear():
        ours = linear(*inputs)
    assert "_Linear" in type(ours.grad_fn).__name__
    theirs = linear(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for a, b in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_frozen_weight_has_no_gradient_and_keeps_no_input(everywhere: None) -> None:
    x, w = torch.randn(9, 8, requires_grad=True), torch.randn(5, 8)
    with products.FasterLinear():
        out = linear(x, w)
    kept: Any = out.grad_fn
    assert kept.saved_tensors[0] is None
    out.sum().backward()
    torch.testing.assert_close(x.grad, w.sum(0).expand(9, 8))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_number_formats_are_torchs(kind: torch.dtype, everywhere: None) -> None:
    x, w = torch.randn(9, 8).to(kind).requires_grad_(), torch.randn(5, 8).to(kind)
    with products.FasterLinear():
        out = linear(x, w)
    assert "_Linear" not in type(out.grad_fn).__name__
    assert torch.equal(out, linear(x, w))


def test_autocast_still_narrows(everywhere: None) -> None:
    x, w = torch.randn(9, 8), torch.randn(5, 8)
    with products.FasterLinear(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x, w).dtype is torch.bfloat16


def test_without_the_function_products_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> torch.Tensor:
        raise AttributeError("_linear_pointwise")

    products.available.cache_clear()
    monkeypatch.setattr(products, "_onednn", gone)
    monkeypatch.setattr(products, "_is_intel", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not products.available()
    products.available.cache_clear()


@pytest.mark.parametrize("checkpointed", [False, True], ids=["", "checkpointed"])
def test_the_seam_in_float32_is_near_the_same_in_float64(checkpointed: bool, everywhere: None) -> None:
    batch = batch_of([([5, 6, 7], [10, 11, 12, 2], [10, 30, 2]), ([5, 6], [20, 21, 2], [31, 2])])
    packed = pack(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    found = []
    for kind in (torch.float64, torch.float32):
        model = random_model("llama").to(kind)
        forward.install(model, block_segments)
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        out = model(
            input_ids=batch["input_ids"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
            **{forward.KEY: packed},
        )
        out.log_probs.sum().backward()
        found.append([out.log_probs, *(p.grad for p in model.parameters())])
    for wide, narrow in zip(*found, strict=True):
        torch.testing.assert_close(narrow.double(), wide.double(), rtol=1e-3, atol=1e-3)
