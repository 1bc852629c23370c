"""TRL's DPOTrainer with three changes: the forward that it calls, micro-batches by tokens, a reference that is given.

Every loss, weighting, metric, checkpoint and callback is TRL's; what is added to its loss stands in ``losses``.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.data_loader import BatchSamplerShard
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from trl import DPOTrainer
from trl.trainer import dpo_trainer

from alignment_trainer.training import sharded, trial
from alignment_trainer.training.batching import PairCollator, Work, cost_of, pairs_in, tokens_in
from alignment_trainer.training.group import Group
from alignment_trainer.training.losses import Term
from alignment_trainer.training.prefix import attention, forward, selfcheck

__all__ = ["PreferenceTrainer"]

_log = logging.getLogger(__name__)
_STATISTICS: Final = ("entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy")
"""Metrics that need the per-token statistics: TRL's names."""
_STATISTICS_EVERY: Final = 10
"""Steps from one that notes the per-token statistics to the next; losses and rewards are noted on every logged step."""
_CHECKED_AMONG: Final = 32
"""The two shortest pairs of so many are those on which our forward is compared with TRL's."""
Reference = Callable[["PreferenceTrainer", Any], Any]


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # trl is untyped
    """DPO on tokenized pairs (columns prompt_ids, chosen_ids, rejected_ids).

    collator: makes the micro-batches; its ``shared`` says whether the prefix-shared forward runs.
    reference: called with this trainer and a dataset; returns it with ref_chosen_logps and ref_rejected_logps.
    group: the processes that train together; omitted: this one alone.
    fresh_adapter: the adapter is new; the reference is the model without it.
    terms: what is added to TRL's loss. only_terms: TRL's loss is left out. compared_by: their sum is the loss of a pair
    held apart, see ``held_apart``.
    """

    _total_train_tokens: float  # TRL's

    def __init__(
        self,
        *,
        collator: PairCollator,
        reference: Reference,
        group: Group | None = None,
        fresh_adapter: bool = False,
        terms: tuple[Term, ...] = (),
        only_terms: bool = False,
        compared_by: tuple[Term, ...] = (),
        **arguments: Any,
    ) -> None:
        self._collator = collator
        self._reference = reference
        self._fresh_adapter = fresh_adapter
        self._terms = terms
        self._compared_by = compared_by
        self._held_apart: list[torch.Tensor] | None = None
        self._seam: forward.Seam | None = None
        self._group = group or Group()
        self._tight = False
        spread = getattr(arguments["model"], "is_distributed_loading_by_transformers", False)
        # transformers refuses to keep the optimizer of weights that are spread; we do that, see below.
        arguments["args"].save_only_model = spread
        with _reference_is_given():
            super().__init__(data_collator=collator.padded, **arguments)
        self.args.save_only_model = False
        self.data_collator = collator
        if only_terms:
            nothing: list[Any] = []
            self.loss_types, self.loss_weights = nothing, nothing

    @property
    def collator(self) -> PairCollator:
        """Makes the micro-batches."""
        return self._collator

    def moved(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A micro-batch on this process's device."""
        device = self.accelerator.device
        return {name: value.to(device) for name, value in batch.items()}

    @property
    def seam(self) -> forward.Seam | None:
        """The prefix-shared forward, where it is in use."""
        return self._seam

    def restore_forward(self) -> None:
        """Put TRL's forward and plain attention back on the model: training is over."""
        if self._seam is not None:
            self._seam.remove()
            self._seam = None

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None with each checkpoint, as TRL would write one: publish writes the model's."""

    # -- what TRL does when it is built ---------------------------------------------------------------------------

    def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
        if "prompt_ids" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *arguments, **named)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:  # noqa: ARG002  TRL's signature
        """TRL calls this once its own forward is on the model: the moment to put ours there, then to compute with it."""
        if self._fresh_adapter and "ref" in self.model.peft_config:
            self.model.delete_adapter(
                "ref"
            )  # TRL copied what is still zero; without it the adapter is switched off
        if self._collator.shared and self._seam is None:
            self._seam = self._install()
            self._check(dataset)
        self.data_collator = self._collator
        given = self._reference(self, dataset)
        if name == "train":
            self._try_largest(dataset)
        return given

    def _install(self) -> forward.Seam:
        backend = attention.backend_for(self.model.config, self.accelerator.device, self.precision)
        always = ("log_sum_sq_probs",) if self.use_weighting else ()
        return forward.install(self.model, backend, always=always)

    @property
    def precision(self) -> torch.dtype:
        """Number format of the passes."""
        return torch.bfloat16 if self.args.bf16 else self.model.dtype

    # -- one step -------------------------------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:  # noqa: ARG002
        """Forward and backward of all micro-batches of a step; returns the step's mean loss per pair."""
        work = Work.of(inputs)
        if self._tight:  # made before memory ran out: the data loader is a step ahead
            work = work.within(self._collator.budget)
        model.train()
        if self._seam is not None:
            self._seam.logging = self._notes_statistics()
        before = {name: len(values) for name, values in self._metrics["train"].items()}
        tokens = self._total_train_tokens
        while True:
            try:
                return self._step(model, work, before)
            except torch.OutOfMemoryError:
                # Of several processes the others wait in the middle of the step: it cannot be done again.
                if self.accelerator.num_processes > 1:
                    raise
                if self._at_smallest(work.batches):
                    raise
            # Outside of the handler: the traceback holds the activations that did not fit.
            model.zero_grad(set_to_none=True)
            self._total_train_tokens = tokens
            self._forget_metrics("train", before)
            self.back_off(max(map(tokens_in, work.batches)))
            if self._tight:
                work = work.within(self._collator.budget)

    def _step(self, model: Any, work: Work, before: dict[str, int]) -> torch.Tensor:
        loss = torch.zeros((), device=self.accelerator.device)
        for number, (batch, weight) in enumerate(zip(work.batches, work.weights, strict=True), 1):
            last = number == len(work.batches)
            with contextlib.nullcontext() if last else self._without_reduction(model):
                with self.maybe_activation_offload_context, self.compute_loss_context_manager():
                    part = self.compute_loss(model, self._prepare_inputs(batch))
                self.accelerator.backward(part * weight)
            loss += part.detach() * weight
        self._average_metrics("train", before, work.shares)
        return loss

    def _without_reduction(self, model: Any) -> contextlib.AbstractContextManager[Any]:
        """Gradients stay here until the step's last micro-batch."""
        context: contextlib.AbstractContextManager[Any] = (
            self._defer_fsdp_gradient_reduction()
            if self.is_distributed_loading_by_transformers
            else self.accelerator.no_sync(model)
        )
        return context

    def _at_smallest(self, batches: list[dict[str, Any]]) -> bool:
        """Nothing more can be done about memory: activations are computed again already, and pairs stand alone."""
        alone = self._collator.together or max(map(pairs_in, batches)) == 1
        return bool(self.model.is_gradient_checkpointing and alone)

    def back_off(self, tokens: int, *, gradients: bool = True) -> None:
        """A micro-batch of so many tokens was out of memory: activations are computed again from here on, or micro-batches are halved.

        gradients: of a training step; without, activations are not kept anyway.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if gradients and not self.model.is_gradient_checkpointing:
            trial.recompute(self.model)
            return
        self._tight = not self._collator.together  # whose steps are not cut, whatever else is
        self._collator.budget = max(1, tokens // 2)
        _log.warning("out of memory: micro-batches of at most %d tokens from here on", self._collator.budget)

    def _try_largest(self, dataset: Any) -> None:
        """Back off before the first step, until the largest micro-batch fits; so several processes can, who cannot do a step again.

        Raises OutOfMemoryError where nothing helps.
        """
        device, several = self.accelerator.device, self.accelerator.num_processes > 1
        if self.is_distributed_loading_by_transformers or not trial.wanted(device):
            return
        while True:
            examples = trial.largest(dataset, self._collator, self.args.per_device_train_batch_size)
            batch = self.moved(self._collator.micro_batch(examples))
            inputs = {name: value for name, value in batch.items() if name != "completion_mask"}
            inputs["labels"] = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
            fit = trial.fits(self.model, inputs, self.accelerator.autocast(), several=several)
            if not self._group.any(not fit):
                break
            if self._at_smallest([batch]):
                raise torch.OutOfMemoryError(
                    f"{tokens_in(batch)} tokens of the longest pairs, which cannot be cut further, do not fit into memory"
                )
            self.back_off(self._group.largest(tokens_in(batch)))
        _log.info("the largest micro-batch, %d tokens, fits", tokens_in(batch))

    def prediction_step(
        self,
        model: Any,
        inputs: Any,
        prediction_loss_only: bool,  # noqa: ARG002, FBT001  transformers' signature
        ignore_keys: Any = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, None, None]:
        """Mean loss per pair of a batch of the selection slice."""
        work = Work.of(inputs)
        before = {name: len(values) for name, values in self._metrics["eval"].items()}
        loss = torch.zeros((), device=self.accelerator.device)
        if self._seam is not None:
            self._seam.logging = True
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch, weight in zip(work.batches, work.weights, strict=True):
                loss += self.compute_loss(model, self._prepare_inputs(batch)) * weight
                if self._held_apart is not None:  # pairs without weight are another process's, repeated here
                    self._held_apart[-1][:, 1] = weight > 0
        self._average_metrics("eval", before, work.shares)
        return self.accelerator.reduce(loss, "mean"), None, None

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        """Transformers' loop; it repeats a batch's loss once per pair and gathers that."""

        def own(losses: torch.Tensor) -> torch.Tensor:
            # Every process has the loss of the whole batch. The last batch counts by the pairs that are in it.
            state = self.accelerator.gradient_state
            return losses[: state.remainder] if state.end_of_dataloader and state.remainder > 0 else losses

        self.gather_function = own
        found = super().evaluation_loop(*arguments, **named)
        sharded.settle(self.model)
        return found

    def _get_dataloader(self, *arguments: Any, **named: Any) -> Any:
        """Batches are whole steps, in the same order on every process; the collator takes this process's share.

        accelerate would deal out batches, and fill the last one of an epoch up with pairs of its beginning.
        """
        loader = super()._get_dataloader(*arguments, **named)
        if isinstance(loader.batch_sampler, BatchSamplerShard):
            loader.batch_sampler.num_processes, loader.batch_sampler.process_index = 1, 0
            loader.batch_sampler.even_batches = False
        return loader

    def held_apart(self) -> torch.Tensor:
        """(S,) loss of each pair of the selection slice under the present weights, in an order that does not change."""
        self._held_apart = []
        self.evaluation_loop(self.get_eval_dataloader(), "Selection", prediction_loss_only=True)
        losses, self._held_apart = self._held_apart, None
        self._metrics["eval"].clear()  # not an evaluation of the curve
        found: torch.Tensor = self.accelerator.gather(torch.cat(losses))
        return found[found[:, 1] > 0, 0]

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> torch.Tensor:  # noqa: FBT001
        mode = "train" if self.model.training else "eval"
        outputs: list[Any] = []

        def recorded(**arguments: Any) -> Any:
            outputs.append(model(**arguments))
            return outputs[-1]

        loss = super()._compute_loss(recorded, inputs, return_outputs)
        for term in self._terms:
            loss = loss + term(outputs[0].log_probs, inputs).mean()
        if self._held_apart is not None:
            losses_P = sum((term(outputs[0].log_probs, inputs) for term in self._compared_by), loss * 0)
            self._held_apart.append(torch.stack([losses_P, torch.ones_like(losses_P)], 1))
        if mode == "train" and self._seam is not None and not self._seam.logging:
            # The forward left the statistics out; what TRL made of the blanks is dropped, not averaged in.
            for name in _STATISTICS:
                self._metrics[mode][name].pop()
                if not self._metrics[mode][name]:
                    del self._metrics[mode][name]
        result: torch.Tensor = loss
        return result

    def _average_metrics(self, mode: str, before: dict[str, int], shares: list[float]) -> None:
        """Make one value of those that TRL noted per micro-batch, by share of pairs."""
        for name, values in self._metrics[mode].items():
            added = values[before.get(name, 0) :]
            if len(added) == len(shares) and len(shares) > 1:
                del values[-len(added) :]
                values.append(sum(value * share for value, share in zip(added, shares, strict=True)))

    def _forget_metrics(self, mode: str, before: dict[str, int]) -> None:
        """Take back what TRL noted since there were ``before`` values of each."""
        for name, values in list(self._metrics[mode].items()):
            del values[before.get(name, 0) :]
            if not values:
                del self._metrics[mode][name]

    def _notes_statistics(self) -> bool:
        step, every = self.state.global_step + 1, max(1, int(self.args.logging_steps))
        every *= math.ceil(_STATISTICS_EVERY / every)
        return step in (1, self.state.max_steps) or step % every == 0

    def _check(self, dataset: Any) -> None:
        """Once, before anything is computed: our forward against TRL's own, on two pairs at most."""
        # TRL's forward scores every padded position on CPU: short pairs, or small trainings spend their time here.
        first = [dataset[number] for number in range(min(_CHECKED_AMONG, len(dataset)))]
        first.sort(key=lambda pair: cost_of(pair, shared=False))
        first = first[:2]
        with self.accelerator.autocast():
            batch = self.moved(self._collator.micro_batch(first))
            difference = selfcheck.disagreement(self.model, batch, self.precision)
        sharded.settle(self.model)
        if not self._group.any(difference is not None):
            return
        _log.error(
            "the prefix-shared forward differs from TRL's (%s); training goes on with TRL's", difference
        )
        self.restore_forward()
        self._collator.shared = False

    # -- checkpoints of weights that are spread over the processes ------------------------------------------------

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_distributed_loading_by_transformers:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        leads = self._group.leads
        file = Path(output_dir) / OPTIMIZER_NAME
        sharded.save_optimizer(self.model, self.optimizer.optimizer, file, leads=leads)
        if leads:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_distributed_loading_by_transformers or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        file = Path(checkpoint) / OPTIMIZER_NAME
        sharded.load_optimizer(self.model, self.optimizer.optimizer, file, leads=self._group.leads)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_distributed_loading_by_transformers:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        sharded.load_weights(self.model, Path(resume_from_checkpoint), leads=self._group.leads)

    def _load_best_model(self) -> None:
        if not self.is_distributed_loading_by_transformers:
            super()._load_best_model()
            # Another node has no checkpoints: there nothing was loaded.
            self._group.copy_from_leader(
                weight for part in self.optimizer.param_groups for weight in part["params"]
            )
            return
        sharded.load_weights(
            self.model, Path(self.state.best_model_checkpoint or ""), leads=self._group.leads
        )

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        """Not estimated: transformers' formula knows neither shared tokens nor frozen weights."""
        return 0


@contextlib.contextmanager
def _reference_is_given() -> Iterator[None]:
    """TRL neither loads a second model nor hashes all weights (0.3 GB/s, to name a cache that we do not use)."""
    kept = dpo_trainer.hash_module, dpo_trainer.create_model_from_path
    dpo_trainer.hash_module = lambda _model: ""
    dpo_trainer.create_model_from_path = lambda *_, **__: None
    try:
        yield
    finally:
        dpo_trainer.hash_module, dpo_trainer.create_model_from_path = kept
