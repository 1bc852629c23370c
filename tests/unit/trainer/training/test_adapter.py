"""LoRA layers in one step give PEFT's output and gradients, and leave to PEFT what is not plain LoRA."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from alignment_trainer.training.prefix import adapter

TARGETS = ["one", "two"]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 20), nn.Linear(20, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.two(torch.tanh(self.one(x)))
        return out


def adapted(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = get_peft_model(Block(), LoraConfig(r=4, lora_alpha=12, target_modules=TARGETS, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))  # a fresh adapter's B is zero and hides mistakes
    return model


def run(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = model(x)
    (out.float() * torch.arange(6)).sum().backward()
    assert x.grad is not None
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return out, found | {"input": x.grad}


def compare(model: Any, x: torch.Tensor, tolerance: float) -> None:
    theirs = copy.deepcopy(model)
    adapter.install(model)
    (ours_out, ours), (out, gradients) = run(model, x), run(theirs, x)
    assert ours_out.dtype is out.dtype
    torch.testing.assert_close(ours_out, out, rtol=tolerance, atol=tolerance)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert ours[name].dtype is gradient.dtype
        difference = (ours[name] - gradient).abs().max() / gradient.abs().max()
        assert float(difference) <= tolerance, name


@pytest.mark.parametrize("trained", [False, True], ids=["frozen base", "trained base"])
def test_output_and_gradients_are_pefts(trained: bool) -> None:
    model = adapted().double()
    model.requires_grad_(True) if trained else None
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    compare(model, x, 1e-12)


def test_under_autocast_the_difference_is_rounding() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        compare(adapted(), torch.randn(2, 5, 12), 5e-2)


@pytest.mark.parametrize(
    "settings", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}], ids=lambda s: next(iter(s))
)
def test_what_is_not_plain_lora_stays_pefts(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted(**settings)
    monkeypatch.setattr(adapter._Adapted, "apply", lambda *_: pytest.fail("took a layer that is PEFT's"))
    assert len(adapter.install(model)) == 2
    model(torch.randn(3, 12))


def test_a_disabled_adapter_leaves_the_base() -> None:
    model = adapted()
    adapter.install(model)
    x = torch.randn(3, 12)
    with model.disable_adapter():
        base = model(x)
    assert torch.equal(base, model.unload()(x))


def test_removing_puts_pefts_forward_back() -> None:
    model = adapted()
    layers = adapter.install(model)
    adapter.remove(layers)
    assert not any("forward" in vars(layer) for layer in layers)


def test_where_nobody_loaded_peft_it_stays_unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "peft"]:
        monkeypatch.delitem(sys.modules, name)
    assert adapter.install(Block()) == []
    assert "peft" not in sys.modules
