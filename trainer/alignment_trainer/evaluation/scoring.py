"""Log-probabilities of given answers under a model, in batches of similar length.

Prompts and answers are tokenized as training does it: the whole text at once, cut where the prompt's tokens end. Both
sides of a pair go through the forward that training uses, which computes once what they share; where that is not exact
for a model, each side by itself.
P pairs of (prompt, answer), T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignment_trainer.data.rows import Text, tools_of

__all__ = ["Scored", "batches", "encode", "encode_prompt", "padded", "score", "score_sides", "vocabulary"]

_TOKENS_PER_BATCH: Final = 16_384
_LOGITS_PER_BATCH: Final = 2**28
"""Tokens times vocabulary: 1 GiB in float32, and 2,048 tokens a batch for a vocabulary of 128k."""


@dataclass(frozen=True)
class Scored:
    """logps: nats, summed over answer tokens; tokens: number of answer tokens; one entry per sequence."""

    logps: NDArray[np.float64]
    tokens: NDArray[np.int64]


def encode(tokenizer: Any, prompt: Text, answer: Text, maximum: int) -> tuple[list[int], int]:
    """Token ids of prompt and answer with its end token, and where the answer begins; cut to ``maximum`` tokens."""
    prompt_ids = encode_prompt(tokenizer, prompt)
    if isinstance(prompt, str):
        assert isinstance(answer, str)  # noqa: S101  both sides of a pair have one form
        ended = answer if answer.endswith(tokenizer.eos_token) else answer + tokenizer.eos_token
        whole = tokenizer(prompt + ended)["input_ids"]
    else:
        assert not isinstance(answer, str)  # noqa: S101
        rendered = tokenizer.apply_chat_template(prompt + answer, tools=tools_of(prompt), return_dict=True)
        whole = rendered["input_ids"]
    start = next(
        (i for i, (a, b) in enumerate(zip(prompt_ids, whole, strict=False)) if a != b),
        min(len(prompt_ids), len(whole)),
    )
    return list(whole[:maximum]), start


def encode_prompt(tokenizer: Any, prompt: Text) -> list[int]:
    """Token ids of a prompt, ready for an answer."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return list(
        tokenizer.apply_chat_template(
            prompt, tools=tools_of(prompt), add_generation_prompt=True, return_dict=True
        )["input_ids"]
    )


def score(
    model: Any, sequences: Sequence[tuple[list[int], int]], pad: int, between: Callable[[int], None]
) -> Scored:
    """Score (ids, start of the answer) sequences. between: called with the number done, after each batch."""
    import torch

    logps = np.zeros(len(sequences))
    device = next(model.parameters()).device
    done = 0
    with torch.inference_mode():
        for batch in batches([len(ids) for ids, _ in sequences], vocabulary(model)):
            ids_PT, answer_PT = (array.to(device) for array in padded([sequences[i] for i in batch], pad))
            logits_PTV = model(input_ids=ids_PT, use_cache=False).logits[:, :-1].float()
            token_logps_PT = -torch.nn.functional.cross_entropy(
                logits_PTV.flatten(0, 1), ids_PT[:, 1:].flatten(), reduction="none"
            ).view(len(batch), -1)
            # Sums of hundreds of tokens are compared to a fraction of a nat: add in float64.
            sums_P = (token_logps_PT.double() * answer_PT[:, 1:]).sum(1)
            logps[batch] = sums_P.cpu().numpy()
            done += len(batch)
            between(done)
    return Scored(logps, np.array([max(0, len(ids) - start) for ids, start in sequences], dtype=np.int64))


def score_sides(
    model: Any,
    chosen: Sequence[tuple[list[int], int]],
    rejected: Sequence[tuple[list[int], int]],
    pad: int,
    between: Callable[[int], None],
) -> tuple[Scored, Scored]:
    """Score both sides of pairs, given as for :func:`score`. between: called with the number of sides done."""
    from alignment_trainer.training.prefix.architectures import refusal

    if refusal(model) is not None:
        first = score(model, chosen, pad, between)
        return first, score(model, rejected, pad, lambda done: between(len(chosen) + done))
    logps = _shared_logps(model, chosen, rejected, pad, between)
    counts = [[max(0, len(ids) - start) for ids, start in side] for side in (chosen, rejected)]
    first, second = (Scored(logps[:, n], np.array(counts[n], dtype=np.int64)) for n in range(2))
    return first, second


def _shared_logps(
    model: Any,
    chosen: Sequence[tuple[list[int], int]],
    rejected: Sequence[tuple[list[int], int]],
    pad: int,
    between: Callable[[int], None],
) -> NDArray[np.float64]:
    """(P, 2) log-probabilities of chosen and rejected sides, nats."""
    import torch

    from alignment_trainer.training.prefix import attention, forward
    from alignment_trainer.training.prefix.packing import pack

    device = next(model.parameters()).device
    logps = np.zeros((len(chosen), 2))
    lengths = [len(a) + len(b) for (a, _), (b, _) in zip(chosen, rejected, strict=True)]
    seam = forward.install(model, attention.backend_for(model.config, device, model.dtype))
    seam.logging = False
    done = 0
    try:
        with torch.inference_mode():
            # The head scores in tiles, so no budget of logits is needed.
            for batch in batches(lengths, 1):
                ids, answer = padded([side[i] for side in (chosen, rejected) for i in batch], pad)
                present = torch.zeros_like(answer)
                for row, length in enumerate(len(side[i][0]) for side in (chosen, rejected) for i in batch):
                    present[row, :length] = True
                found = seam.run(pack(ids, present, answer).to(device)).log_probs
                # Sums of hundreds of tokens are compared to a fraction of a nat: add in float64.
                logps[batch] = torch.stack(found.double().sum(1).chunk(2), 1).cpu().numpy()
                done += 2 * len(batch)
                between(done)
    finally:
        seam.remove()
    return logps


def padded(sequences: Sequence[tuple[list[int], int]], pad: int) -> tuple[Any, Any]:
    """Token ids, and which of them are the answer's; both (P, T).

    Padding is on the right: under a causal mask it is never attended to, so no mask is needed.
    """
    import torch

    longest = max(len(ids) for ids, _ in sequences)
    ids_PT = torch.full((len(sequences), longest), pad, dtype=torch.long)
    answer_PT = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, (ids, start) in enumerate(sequences):
        ids_PT[row, : len(ids)] = torch.tensor(ids)
        answer_PT[row, max(start, 1) : len(ids)] = True
    return ids_PT, answer_PT


def vocabulary(model: Any) -> int:
    """Number of tokens that a model's logits are over."""
    return int(model.config.get_text_config().vocab_size)


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices grouped by similar length, each group within the budgets. tokens: the vocabulary's size."""
    budget = min(_TOKENS_PER_BATCH, _LOGITS_PER_BATCH // tokens)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    found: list[list[int]] = []
    for index in order:
        if found and (len(found[-1]) + 1) * lengths[index] <= budget:
            found[-1].append(index)
        else:
            found.append([index])
    return found
