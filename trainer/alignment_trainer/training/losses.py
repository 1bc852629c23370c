"""What is added to TRL's loss, and by which loss checkpoints are compared: functions of per-token log-probabilities and the batch.

A term is one value per pair, so it does not depend on how the pairs of a step are spread over micro-batches and
processes. P pairs, L padded length; log_probs is TRL's (2P, L-1), chosen sides first, zero where nothing is scored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from alignment_api.spec import Loss, SftTokens, TrainingSpec

__all__ = ["Term", "comparison", "dpop", "supervised", "terms"]

Term = Callable[[torch.Tensor, dict[str, Any]], torch.Tensor]


def terms(spec: TrainingSpec, beta: float, sft_weight: float) -> tuple[Term, ...]:
    """What a spec adds to TRL's loss, or puts in its place (``dpop_weight``)."""
    added: tuple[Term, ...] = ()
    if spec.dpop_weight is not None:
        added += (dpop(beta, spec.dpop_weight),)
    if sft_weight > 0:
        added += (supervised(sft_weight, changed_only=spec.sft_tokens is SftTokens.CHANGED),)
    return added


def comparison(spec: TrainingSpec, beta: float, sft_weight: float) -> tuple[Term, ...]:
    """Terms whose sum is the loss of a pair held apart: the run's own loss where that is the sigmoid loss or IPO.

    For the others it is the log loss of the preference, -log σ(βΔ), of which they are robust or bounded variants.
    """
    added = terms(spec, beta, sft_weight)
    return added if spec.dpop_weight is not None else (_preference(beta, spec.loss), *added)


def _preference(beta: float, loss: Loss) -> Term:
    """Per-pair sigmoid loss, or IPO's square; Δ is per token where the loss takes it so."""
    per_token = loss in (Loss.IPO, Loss.SIGMOID_NORM)

    def term(log_probs: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        ratios_2P = log_probs.sum(1) - torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])
        if per_token:
            ratios_2P = ratios_2P / batch["completion_mask"].sum(1).clamp(min=1)
        chosen_P, rejected_P = ratios_2P.chunk(2)
        margin_P = chosen_P - rejected_P
        return (margin_P - 1 / (2 * beta)) ** 2 if loss is Loss.IPO else -logsigmoid(beta * margin_P)

    return term


def supervised(weight: float, *, changed_only: bool) -> Term:
    """(P,) weighted mean negative log-likelihood per token of the chosen side, in nats.

    changed_only: over the tokens that the person wrote, those that no alignment with the rejected side keeps; a pair
    whose edit only deletes counts 0. TRL's ``sft`` is a mean over all tokens of a micro-batch, and so depends on it.
    """

    def term(log_probs: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        chosen_PL, _ = log_probs.chunk(2)
        mask_PL = batch["completion_mask"][:, 1:].chunk(2)[0].bool()
        if changed_only:
            mask_PL = mask_PL & _written(batch)
        counts_P = mask_PL.sum(1).clamp(min=1)
        loss_P: torch.Tensor = -weight * (chosen_PL * mask_PL).sum(1) / counts_P
        return loss_P

    return term


def dpop(beta: float, penalty: float) -> Term:
    """(P,) DPO-Positive: -log σ(β(Δ - λ max(0, log π_ref(chosen)/π(chosen)))), Δ the difference of the log-ratios.

    Keeps DPO from lowering the likelihood of a chosen text that differs little from the rejected one (Pal et al. 2024,
    arXiv 2402.13228, equation 4). penalty: λ, 0 gives DPO. Returns ln 2 when the policy equals the reference.
    """

    def term(log_probs: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        chosen_P, rejected_P = log_probs.sum(1).chunk(2)
        chosen_ratio_P = chosen_P - batch["ref_chosen_logps"]
        margin_P = chosen_ratio_P - (rejected_P - batch["ref_rejected_logps"])
        return -logsigmoid(beta * (margin_P - penalty * torch.relu(-chosen_ratio_P)))

    return term


def _written(batch: dict[str, Any]) -> torch.Tensor:
    """(P, L-1): predicted tokens of the chosen side that are replaced or inserted against the rejected side."""
    from rapidfuzz.distance import Levenshtein

    ids = batch["input_ids"]
    lengths = batch["attention_mask"].sum(1).tolist()
    pairs = ids.shape[0] // 2
    written = torch.zeros(pairs, ids.shape[1], dtype=torch.bool)
    for pair in range(pairs):
        rejected = ids[pairs + pair, : lengths[pairs + pair]].tolist()
        chosen = ids[pair, : lengths[pair]].tolist()
        for change in Levenshtein.editops(rejected, chosen):
            if change.tag != "delete":
                written[pair, change.dest_pos] = True
    return written[:, 1:].to(ids.device)
