"""The seam: TRL's trainer calls ``model(…, labels=…, fused_lm_head=True)`` and reads per-token fields; we answer that call.

:func:`install` replaces the forward that TRL's ``add_fused_lm_head`` put on the model. A call that brings a
:class:`PackedBatch` (the collator adds it to TRL's batch under :data:`KEY`) runs packed; every other call, generation
included, goes to what was there before. Besides it, plain
LoRA layers compute what they compute in one step (``adapter``). Nothing else of TRL or of the model is touched.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Iterator
from typing import Any, Final

import torch

from alignment_trainer.training.prefix import adapter, attention, products
from alignment_trainer.training.prefix.head import score_rows
from alignment_trainer.training.prefix.packing import PackedBatch

__all__ = ["KEY", "VERSION", "Seam", "install"]

KEY: Final = "packed"
"""Name of the packed batch in the model's keyword arguments."""
VERSION: Final = 1
"""Raised when other log-probabilities come out of here than before, beyond rounding: cached ones are then not used."""


class Seam:
    """The installed forward's state. statistics: whether entropy and the like are computed; tokens, rows: of all calls."""

    def __init__(self, model: Any, original: Any, backend: attention.Backend) -> None:
        self.statistics: tuple[str, ...] = ("entropy", "mean_logits", "is_top1")
        self.always: tuple[str, ...] = ()
        self.logging = True
        self.tokens = 0
        self.rows = 0
        self._model = model
        self._original = original
        self._backend = backend
        self._layers = adapter.install(model)

    def remove(self) -> None:
        """Put TRL's own forward back."""
        self._model.forward = self._original
        adapter.remove(self._layers)
        self._model.set_attn_implementation("sdpa")

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """For the time being, compute log-probabilities and what a loss needs, and no statistics."""
        kept, self.logging = self.logging, False
        try:
            yield
        finally:
            self.logging = kept

    def run(self, packed: PackedBatch) -> dict[str, torch.Tensor]:
        """Score a packed batch; returns the fields of TRL's ``FusedCausalLMOutput``, (2P, T-1) each."""
        from torch.distributed.tensor import DTensor

        self.tokens += packed.ids_T.shape[0]
        self.rows += packed.rows_R.shape[0]
        # The segments travel as arguments, not on the side: gradient checkpointing calls the layers again, later.
        with self._products():
            hidden_TE = self._model.base_model(
                input_ids=packed.ids_T[None],
                position_ids=packed.positions_T[None],
                attention_mask=attention.placeholder_mask(packed.ids_T.device),
                use_cache=False,
                segments=packed.segments,
                segment_backend=self._backend,
            ).last_hidden_state[0]
        head = self._model.get_output_embeddings()
        parts: tuple[Any, Any] = head.weight, head.bias
        # FSDP2 shows sharded parameters as DTensors.
        weight, bias = (x.full_tensor() if isinstance(x, DTensor) else x for x in parts)
        names = (*(self.statistics if self.logging else ()), *self.always)
        scored = score_rows(hidden_TE.index_select(0, packed.rows_R), weight, bias, packed.labels_R, names)
        fields = {name: packed.spread(values) for name, values in scored.items()}
        # TRL reads these on every call; on a step that logs nothing their value goes nowhere.
        for name in self.statistics:
            if name not in fields:
                kind = torch.bool if name == "is_top1" else torch.float32
                fields[name] = torch.zeros((), dtype=kind, device=hidden_TE.device).expand(packed.shape)
        return fields

    def _products(self) -> contextlib.AbstractContextManager[Any]:
        # Checkpointed layers run again in the backward pass, outside of here, and must then do the same.
        # (The property that tells has another name in each transformers; the attribute that it reads is older.)
        again = torch.is_grad_enabled() and any(
            getattr(module, "gradient_checkpointing", False) for module in self._model.modules()
        )
        return contextlib.nullcontext() if again or not products.available() else products.FasterLinear()


def install(model: Any, backend: attention.Backend, *, always: tuple[str, ...] = ()) -> Seam:
    """Answer TRL's fused call on ``model`` (a causal LM, or the one inside an adapter). always: statistics a loss needs."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    original = base.forward
    seam = Seam(base, original, backend)
    seam.always = always
    attention.register()
    base.set_attn_implementation(attention.NAME)

    # generate() reads the signature of forward to validate its arguments.
    @functools.wraps(type(base).forward)
    def forward(_self: Any, *args: Any, **kwargs: Any) -> Any:
        packed = kwargs.pop(KEY, None)
        if packed is None or not kwargs.get("fused_lm_head", False):
            return original(*args, **kwargs)
        # Whoever makes this call is TRL; evaluation scores without loading it.
        from trl.trainer.utils import FusedCausalLMOutput

        return FusedCausalLMOutput(**seam.run(packed))

    base.forward = types.MethodType(forward, base)
    return seam
