"""The prefix-shared forward gives the loss and every gradient of the padded path, for every loss and model type."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.spec import Loss
from alignment_trainer.training.prefix import attention, forward
from alignment_trainer.training.prefix.architectures import EXACT, refusal
from alignment_trainer.training.prefix.packing import pack
from support.preference import VOCABULARY, Sides, batch_of, install_padded, random_model

LIMIT = 1e-9
"""Largest relative difference of the loss and of each parameter's gradient, float64."""
LOSSES = [str(loss) for loss in Loss if loss is not Loss.SMOOTHED] + ["sft"]
RAGGED: list[Sides] = [
    ([5, 6, 7, 8, 9], [10, 11, 12, 13, 2], [10, 11, 30, 2]),  # an edit
    ([5, 6], [20, 21, 22, 23, 24, 25, 2], [31, 2]),  # nothing in common but the prompt
    ([7] * 20, [2], [9, 2]),  # an answer of one token
    ([40, 41, 42], [50, 51, 52, 2], [50, 51, 52, 53, 54, 2]),  # one side goes on where the other ends
    ([3], [11, 12, 13, 2], [11, 12, 13, 2]),  # the same answer twice
]


def evaluated(trainer: Any, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    trainer.model.zero_grad(set_to_none=True)
    trainer.model.train()
    loss = trainer._compute_loss(trainer.model, dict(batch), False)
    loss.backward()
    return loss.item(), {
        name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None
    }


def differences(ours: dict[str, torch.Tensor], padded: dict[str, torch.Tensor]) -> dict[str, float]:
    assert ours.keys() == padded.keys()
    return {
        name: float((ours[name] - padded[name]).abs().max() / padded[name].abs().max().clamp(min=1e-12))
        for name in padded
    }


class Twins:
    """TRL's trainer twice on the same weights: with the padded float64 path, and with the prefix-shared forward."""

    def __init__(self, model: Any, folder: Path) -> None:
        from datasets import Dataset
        from transformers import PreTrainedTokenizerFast
        from trl import DPOConfig, DPOTrainer

        from support.tiny import save_tiny_tokenizer

        save_tiny_tokenizer(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.trainers = []
        for kind in ("padded", "shared"):
            twin = copy.deepcopy(model)
            arguments = DPOConfig(
                output_dir=str(folder / kind),
                bf16=False,
                use_cpu=True,
                report_to=[],
                gradient_checkpointing=False,
            )
            rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
            trainer = DPOTrainer(
                model=twin,
                ref_model=copy.deepcopy(model),
                args=arguments,
                train_dataset=rows,
                processing_class=tokenizer,
            )
            trainer.precompute_ref_logps = True
            trainer.label_smoothing = 0.1
            if kind == "padded":
                install_padded(twin)
            else:
                forward.install(twin, attention.block_segments, always=("log_sum_sq_probs",))
            self.trainers.append(trainer)

    def compare(self, batch: dict[str, Any], loss: str, **settings: Any) -> None:
        results = []
        packed = {forward.KEY: pack(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])}
        for trainer, extra in zip(self.trainers, ({}, packed), strict=True):
            trainer.loss_types = [loss]
            for name, value in settings.items():
                setattr(trainer, name, value)
            results.append((*evaluated(trainer, batch | extra), dict(trainer._metrics["train"])))
            trainer._metrics["train"].clear()
        (padded_loss, padded, padded_metrics), (our_loss, ours, our_metrics) = results
        assert our_loss == pytest.approx(padded_loss, rel=LIMIT, abs=LIMIT)
        worst = differences(ours, padded)
        assert max(worst.values()) <= LIMIT, worst
        for name, values in padded_metrics.items():
            assert our_metrics[name] == pytest.approx(values, rel=1e-6, abs=1e-9), name


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twins]:
    return {}


@pytest.fixture
def make_twins(twins: dict[str, Twins], tmp_path: Path) -> Any:
    def make(model_type: str) -> Twins:
        if model_type not in twins:
            twins[model_type] = Twins(random_model(model_type), tmp_path)
        return twins[model_type]

    return make


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model_type", EXACT)
def test_loss_and_every_gradient_equal_the_padded_path(model_type: str, loss: str, make_twins: Any) -> None:
    make_twins(model_type).compare(batch_of(RAGGED), loss)


@pytest.mark.parametrize(
    "settings",
    [
        {"f_divergence_type": "js_divergence"},
        {"use_weighting": True, "f_divergence_type": "reverse_kl"},
        {"ld_alpha": 0.5, "use_weighting": False},
    ],
    ids=["f-divergence", "WPO weighting", "length desensitisation"],
)
def test_what_trl_builds_on_the_fields_is_exact_too(settings: dict[str, Any], make_twins: Any) -> None:
    made = make_twins("llama")
    made.compare(batch_of(RAGGED), "sigmoid", **settings)
    for trainer in made.trainers:
        trainer.f_divergence_type, trainer.use_weighting, trainer.ld_alpha = "reverse_kl", False, None


tokens = st.integers(3, VOCABULARY - 1)


@st.composite
def pairs(draw: st.DrawFn) -> Sides:
    prompt = draw(st.lists(tokens, min_size=0, max_size=12))
    common = draw(st.lists(tokens, min_size=0, max_size=8))
    tails = [draw(st.lists(tokens, min_size=0, max_size=8)) for _ in range(2)]
    chosen, rejected = ([*common, *tail] or [2] for tail in tails)
    return prompt, chosen, rejected


@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(pairs(), min_size=1, max_size=5),
    maximum=st.one_of(st.none(), st.integers(2, 16)),
    backend=st.sampled_from([attention.block_segments, attention.sdpa_segments]),
)
def test_any_ragged_batch_is_exact(sides: list[Sides], maximum: int | None, backend: Any) -> None:
    batch = batch_of(sides, maximum=maximum)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
    padded, shared = random_model("llama"), random_model("llama")
    install_padded(padded)
    forward.install(shared, backend)
    packed = pack(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    weights = torch.randn(
        labels[:, 1:].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    results = []
    for model, extra in ((padded, {}), (shared, {forward.KEY: packed})):
        out = model(**inputs, use_cache=False, fused_lm_head=True, **extra)
        (out.log_probs * weights).sum().backward()
        results.append((out, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (a, padded_grads), (b, shared_grads) = results
    for name in ("log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(getattr(b, name), getattr(a, name), rtol=LIMIT, atol=LIMIT)
    assert torch.equal(a.is_top1, b.is_top1)
    for name, gradient in padded_grads.items():
        torch.testing.assert_close(shared_grads[name], gradient, rtol=1e-8, atol=LIMIT)


@settings(max_examples=50, deadline=None)
@given(sides=st.lists(pairs(), min_size=1, max_size=5))
def test_each_position_and_label_is_scored_once(sides: list[Sides]) -> None:
    batch = batch_of(sides)
    packed = pack(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    rows = list(zip(packed.rows_R.tolist(), packed.labels_R.tolist(), strict=True))
    assert len(set(rows)) == len(rows)
    assert packed.ids_T.numel() <= max(1, int((batch["attention_mask"].sum(1) - 1).sum()))
    back = packed.spread(packed.labels_R)
    labels = batch["input_ids"] * batch["completion_mask"]
    assert torch.equal(back, labels[:, 1:] * batch["attention_mask"][:, 1:])


@pytest.mark.parametrize("backend", [attention.block_segments, attention.sdpa_segments])
@pytest.mark.parametrize("model_type", EXACT)
def test_float32_weights_train_in_bfloat16(model_type: str, backend: Any) -> None:
    """Full weights at the default precision: queries and keys leave the rotary step in float32, values do not."""
    batch = batch_of(RAGGED)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
    packed = pack(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    model = random_model(model_type).float()
    install_padded(model)
    exact = model(**inputs, use_cache=False, fused_lm_head=True).log_probs
    forward.install(model, backend)
    with torch.autocast("cpu", torch.bfloat16):
        shared = model(**inputs, use_cache=False, fused_lm_head=True, **{forward.KEY: packed}).log_probs
    shared.sum().backward()
    torch.testing.assert_close(shared.float(), exact.float(), rtol=0.05, atol=0.05)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_gradient_checkpointing_changes_nothing(make_twins: Any) -> None:
    made = make_twins("llama")
    model = made.trainers[1].model
    model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        made.compare(batch_of(RAGGED), "sigmoid")
    finally:
        model.gradient_checkpointing_disable()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mixtral"}, "model type 'mixtral'"),
        ({"sliding_window": 16}, "sliding attention window of 16"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ({"attention_dropout": 0.1}, "dropout inside attention"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "dynamic"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ],
)
def test_what_is_not_exact_is_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    model = random_model("llama")
    assert refusal(model) is None
    for name, value in change.items():
        if name == "model_type":
            type(model.config).model_type, kept = value, type(model.config).model_type
            try:
                assert said in str(refusal(model))
            finally:
                type(model.config).model_type = kept
            return
        setattr(model.config, name, value)
    assert said in str(refusal(model))


def test_virtual_tokens_are_refused() -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(
        random_model("llama"), PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    )
    assert "virtual tokens" in str(refusal(model))
