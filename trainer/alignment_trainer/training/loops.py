"""The two phases of training, each one of TRL's trainers: supervised warm start, then DPO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pyarrow.compute import list_value_length
from trl import DPOConfig, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from alignment_api.spec import Engine, Loss, Precision, TrainingSpec
from alignment_trainer.errors import Stopped
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris
from alignment_trainer.training.batching import PairCollator
from alignment_trainer.training.callbacks import (
    DivergenceCheck,
    FirstStepCheck,
    Reporter,
    Uploader,
    rewards_without_dropout,
)
from alignment_trainer.training.checkpoints import Checkpoints, step_of
from alignment_trainer.training.dataset import Part
from alignment_trainer.training.engine import choose_engine
from alignment_trainer.training.group import Group
from alignment_trainer.training.losses import comparison, terms
from alignment_trainer.training.prefix import forward
from alignment_trainer.training.reference import reference_values, with_reference
from alignment_trainer.training.reference_cache import ReferenceCache, scope_of
from alignment_trainer.training.schedule import Schedule, compares_pairs, log_steps, losses
from alignment_trainer.training.selection import choose_checkpoint
from alignment_trainer.training.tokens import supervised, tokenized
from alignment_trainer.training.trainer import PreferenceTrainer
from alignment_trainer.training.trial import size_warm_start

__all__ = ["Trained", "run_dpo", "run_warm_start"]


def run_warm_start(
    context: StageContext,
    group: Group,
    policy: Any,
    tokenizer: Any,
    pairs: Part,
    plan: Schedule,
    steps: int,
) -> list[dict[str, Any]]:
    """Supervised training on the chosen side in ``steps`` steps. Changes ``policy``; returns the log. Raises Stopped."""
    spec = context.request.spec.training
    assert spec.warm_start is not None  # noqa: S101  the caller saw to it
    arguments = SFTConfig(
        **_common(context, "warm-start", steps, plan, spec),
        num_train_epochs=spec.warm_start.epochs,
        learning_rate=plan.warm_start_learning_rate,
        save_strategy="no",
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    file = context.scratch / "tokens" / "supervised.arrow"
    rows = _on_disk(group, supervised, pairs, tokenizer, file, spec.max_length)
    trainer = SFTTrainer(
        model=policy,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[
            Reporter(context, group, "warm start", 0, steps + plan.steps),
            DivergenceCheck("training.warmStart.learningRate", plan.warm_start_learning_rate),
        ],
    )
    size_warm_start(trainer, group, list_value_length(rows.data.column("input_ids")).to_numpy(), plan)
    trainer.train()
    # A warm start is short; stopped, it is done again rather than resumed.
    context.raise_if_stopped()  # which all were told after the same step
    return _log(trainer)


@dataclass(frozen=True)
class Trained:
    """What a DPO run leaves besides the changed policy. steps: optimizer steps; checkpoint: that of the weights that are left.

    resumed: step that this attempt went on from; 0 where it began.
    reference: number of ``pairs`` whose reference was needed, and of those that were ``cached``.
    """

    log: list[dict[str, Any]]
    steps: int
    resumed: int
    checkpoint: int
    engine: Engine
    reference: dict[str, int]


def run_dpo(
    context: StageContext,
    group: Group,
    policy: Any,
    tokenizer: Any,
    pairs: tuple[Part, Part],
    plan: Schedule,
    done: int,
    *,
    fresh: bool,
    names: dict[str, str],
) -> Trained:
    """DPO from ``policy`` as the reference. Changes ``policy``.

    pairs: to train on, and to choose the checkpoint on. done: steps of the warm start, for progress. fresh: the
    adapter is new, so the reference is the base without it. names: digests of the reference, for its cache.
    """
    spec = context.request.spec.training
    train, selection = (
        _on_disk(group, tokenized, side, tokenizer, context.scratch / "tokens" / name, spec.max_length)
        for name, side in zip(("train.arrow", "selection.arrow"), pairs, strict=True)
    )
    engine = choose_engine(spec.engine, policy)
    choose: dict[str, Any] = {"eval_strategy": "no"}
    if len(selection):
        choose = {
            "eval_strategy": "steps",
            "eval_steps": plan.save_steps,
            "per_device_eval_batch_size": plan.pairs_per_step,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    types, weights = losses(spec)
    arguments = DPOConfig(
        **_common(context, "dpo", plan.steps, plan, spec),
        per_device_train_batch_size=plan.pairs_per_step,  # of all processes: see PairCollator
        num_train_epochs=plan.epochs,
        learning_rate=plan.learning_rate,
        save_strategy="steps",
        save_steps=plan.save_steps,
        save_total_limit=2,
        beta=plan.beta,
        loss_type=types,
        loss_weights=weights,
        label_smoothing=spec.label_smoothing or 0.0,
        precompute_ref_log_probs=True,
        disable_dropout=False,  # what there is, is the adapter's: see load_policy
        **choose,
    )
    collator = PairCollator(
        DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id, max_length=spec.max_length),
        budget=plan.tokens_per_micro_batch,
        shared=engine is Engine.PREFIX_SHARED,
        maximum=spec.max_length,
        together=compares_pairs(spec.loss),
        processes=group.size,
        process=group.rank,
    )
    known = {"pairs": 0, "cached": 0}

    def reference(trainer: PreferenceTrainer, dataset: Any) -> Any:
        def between(number: int, of: int) -> None:
            context.progress.update(done, done + plan.steps, activity=f"reference {number}/{of}")
            if group.any(context.stop.is_set()):
                context.stop.set()
            context.raise_if_stopped()

        shared = f"{Engine.PREFIX_SHARED} {forward.VERSION}"
        scope = scope_of(**names, forward=shared if collator.shared else f"{Engine.TRL} {version('trl')}")
        folder = uris.join(context.request.spec.artifacts.uri, "cache", "reference", scope) + "/"
        cache = ReferenceCache(context.store(folder), folder)
        values, cached = reference_values(
            trainer, dataset, cache, maximum=spec.max_length, group=group, between=between
        )
        known["pairs"] += len(values)
        known["cached"] += cached
        return with_reference(dataset, values)

    # Another number of processes cannot go on from weights that were spread, or the other way round.
    spread = spec.lora is None and group.size > 1
    checkpoints = Checkpoints(context, "dpo-spread" if spread else "dpo")
    # Under dropout only an adapter that is still zero has the rewards of the reference.
    loose = spec.lora is not None and spec.lora.dropout > 0 and not fresh
    check = FirstStepCheck(
        sigmoid_only=spec.loss is Loss.SIGMOID and plan.sft_weight == 0,
        low_precision=spec.precision is Precision.BFLOAT16,
        beta=plan.beta,
        without_dropout=(lambda: rewards_without_dropout(trainer)) if loose else None,
    )
    trainer = PreferenceTrainer(
        model=policy,
        args=arguments,
        train_dataset=train,
        eval_dataset=selection if len(selection) else None,
        processing_class=tokenizer,
        callbacks=[
            Reporter(context, group, "training", done, done + plan.steps),
            Uploader(checkpoints, group),
            check,
            DivergenceCheck("training.learningRate", plan.learning_rate),
        ],
        group=group,
        collator=collator,
        reference=reference,
        fresh_adapter=fresh,
        terms=terms(spec, plan.beta, plan.sft_weight),
        compared_by=comparison(spec, plan.beta, plan.sft_weight),
        only_terms=spec.dpop_weight is not None,
    )
    target, partial = Path(arguments.output_dir), group.crew.node > 0
    newest = group.once_per_node(lambda: checkpoints.fetch(target, partial=partial), Path | None)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    if context.stop.is_set() and trainer.state.global_step < trainer.state.max_steps:
        raise Stopped(
            f"Stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; the checkpoint is stored."
        )
    checkpoint = choose_checkpoint(trainer)
    used = Engine.PREFIX_SHARED if trainer.seam is not None else Engine.TRL
    trainer.restore_forward()
    resumed = step_of(newest) if newest else 0
    return Trained(_log(trainer), trainer.state.max_steps, resumed, checkpoint, used, known)


def _on_disk(
    group: Group, write: Callable[..., Any], pairs: Part, tokenizer: Any, file: Path, maximum: int
) -> Any:
    """The pairs as token ids, as ``write`` writes them, once per node."""
    group.once_per_node(lambda: len(write(pairs, tokenizer, file, maximum=maximum)), int)
    return Dataset.from_file(str(file))


def _common(
    context: StageContext, phase: str, steps: int, plan: Schedule, spec: TrainingSpec
) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    low = spec.precision is Precision.BFLOAT16
    return {
        "output_dir": str(context.scratch / phase),
        # One process alone begins without, and turns it on when memory does not do; several cannot do a step again.
        "gradient_checkpointing": cuda and plan.processes > 1,
        "bf16": low,
        "use_cpu": not cuda,
        "max_length": spec.max_length,
        "lr_scheduler_type": "cosine",
        "warmup_steps": steps // 10,
        "logging_steps": log_steps(steps),
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would show 0 for a training that diverged
        "seed": spec.seed,
        "data_seed": spec.seed,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False,
    }


def _log(trainer: Any) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
