"""Log-probabilities of given answers under a model, in batches of similar length.

Prompts and answers are tokenized as training does it: the whole text at once, cut where the prompt's tokens end. Both
sides of a pair go through the forward that training uses, which computes once what they share, once it was compared
with the model's own; where that is not exact for a model, or not wanted, each side by itself.
P pairs of (prompt, answer), T tokens, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignment_api.spec import Engine
from alignment_trainer.data.chat_template import apply_chat_template
from alignment_trainer.data.rows import Text

__all__ = ["Scored", "batches", "encode", "encode_prompt", "padded", "score", "score_sides", "vocabulary"]

_log = logging.getLogger(__name__)
_TOKENS_PER_BATCH: Final = 16_384
_LOGITS_PER_BATCH: Final = 2**28
"""Tokens times vocabulary: 1 GiB in float32, and 2,048 tokens a batch for a vocabulary of 128k."""
_CHECKED_PAIRS: Final = 2
"""The shortest pairs, so many of them, on which the shared forward is compared with the model's own in each call."""


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
        whole = apply_chat_template(tokenizer, prompt + answer, return_dict=True)["input_ids"]
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
        apply_chat_template(tokenizer, prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
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
            token_logps_PT = _token_logps(model, ids_PT)
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
    *,
    engine: Engine = Engine.AUTO,
) -> tuple[Scored, Scored]:
    """Score both sides of pairs, given as for :func:`score`. between: called with the number of sides done.

    engine: TRL stands for each side by itself; the others for the shared forward wherever it is exact.
    """
    from alignment_trainer.training.prefix.architectures import refusal

    logps = None
    if engine is not Engine.TRL and refusal(model) is None:
        logps = _shared_logps(model, chosen, rejected, pad, between)
    if logps is None:
        first = score(model, chosen, pad, between)
        return first, score(model, rejected, pad, lambda done: between(len(chosen) + done))
    counts = [[max(0, len(ids) - start) for ids, start in side] for side in (chosen, rejected)]
    first, second = (Scored(logps[:, n], np.array(counts[n], dtype=np.int64)) for n in range(2))
    return first, second


def _shared_logps(
    model: Any,
    chosen: Sequence[tuple[list[int], int]],
    rejected: Sequence[tuple[list[int], int]],
    pad: int,
    between: Callable[[int], None],
) -> NDArray[np.float64] | None:
    """(P, 2) log-probabilities of chosen and rejected sides, nats; None where the model's own forward has others."""
    import torch

    from alignment_trainer.training.prefix import attention, forward
    from alignment_trainer.training.prefix.packing import pack

    def passed(rows: Sequence[tuple[list[int], int]]) -> Any:
        """(2n, T-1) log-probabilities of answer tokens in one pass, 0 elsewhere. rows: n chosen sides, then the rejected."""
        ids, answer = padded(rows, pad)
        present = torch.zeros_like(answer)
        for row, (tokens, _) in enumerate(rows):
            present[row, : len(tokens)] = True
        return seam.run(pack(ids, present, answer).to(device))["log_probs"]

    device = next(model.parameters()).device
    logps = np.zeros((len(chosen), 2))
    lengths = [len(a) + len(b) for (a, _), (b, _) in zip(chosen, rejected, strict=True)]
    few = _shortest(chosen, rejected)
    with torch.inference_mode():
        theirs = [_token_logps(model, torch.tensor([ids], device=device))[0] for ids, _ in few]
    seam = forward.install(model, attention.backend_for(model.config, device, model.dtype))
    seam.logging = False
    done = 0
    try:
        with torch.inference_mode():
            if few and (said := _difference(passed, few, theirs, model.dtype)) is not None:
                _log.error(
                    "the prefix-shared forward differs from the model's own (%s); each side is scored by itself",
                    said,
                )
                return None
            # The head scores in tiles, so no budget of logits is needed.
            for batch in batches(lengths, 1):
                found = passed([side[i] for side in (chosen, rejected) for i in batch])
                # Sums of hundreds of tokens are compared to a fraction of a nat: add in float64.
                logps[batch] = torch.stack(found.double().sum(1).chunk(2), 1).cpu().numpy()
                done += 2 * len(batch)
                between(done)
    finally:
        seam.remove()
    return logps


def _shortest(
    chosen: Sequence[tuple[list[int], int]], rejected: Sequence[tuple[list[int], int]]
) -> list[tuple[list[int], int]]:
    """The sides of the pairs to compare two forwards on, chosen ones first: short ones with something to score."""
    pairs = [
        pair for pair in zip(chosen, rejected, strict=True) if all(len(ids) > start for ids, start in pair)
    ]
    pairs.sort(key=lambda pair: sum(len(ids) for ids, _ in pair))
    return [pair[side] for side in range(2) for pair in pairs[:_CHECKED_PAIRS]]


def _difference(
    passed: Callable[[Sequence[tuple[list[int], int]]], Any],
    few: Sequence[tuple[list[int], int]],
    theirs: Sequence[Any],
    precision: Any,
) -> str | None:
    """How a forward differs from ``theirs``, one row of :func:`_token_logps` a side; None if it does not."""
    import torch

    from alignment_trainer.training.prefix.attention import SegmentsLost
    from alignment_trainer.training.prefix.selfcheck import difference

    try:
        ours = passed(few)
    except SegmentsLost as error:
        return str(error)
    answers = [slice(max(start, 1) - 1, len(ids) - 1) for ids, start in few]
    a, b = (
        torch.cat([values[answer] for values, answer in zip(rows, answers, strict=True)])
        for rows in (theirs, ours)
    )
    return difference("log_probs", a, b, len(a), precision)


def _token_logps(model: Any, ids_PT: Any) -> Any:
    """(P, T-1) log-probability of each token but the first, by the model's own forward."""
    import torch

    logits_PTV = model(input_ids=ids_PT, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits_PTV.flatten(0, 1), ids_PT[:, 1:].flatten(), reduction="none"
    )
    return -losses.view(len(ids_PT), -1)


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
