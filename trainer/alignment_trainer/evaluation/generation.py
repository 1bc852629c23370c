"""Generated answers, sampled in batches with a seed of their own per batch, so that a rerun gives the same texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alignment_trainer.evaluation.scoring import encode_prompt

__all__ = ["Answer", "generate"]

_BATCH = 64


@dataclass(frozen=True)
class Answer:
    """ids: token ids of the answer, its end token included if it came; finished: it came."""

    ids: tuple[int, ...]
    text: str
    finished: bool


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    *,
    temperature: float,
    maximum: int,
    seed: int,
    between: Callable[[int], None],
) -> list[Answer]:
    """One answer per prompt, at most ``maximum`` new tokens; temperature 0 is greedy."""
    import torch

    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    answers: dict[int, Answer] = {}
    device = next(model.parameters()).device
    end = tokenizer.eos_token_id
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        longest = max(len(encoded[i]) for i in batch)
        ids = torch.tensor(
            [[tokenizer.pad_token_id] * (longest - len(encoded[i])) + encoded[i] for i in batch]
        )
        mask = torch.tensor([[0] * (longest - len(encoded[i])) + [1] * len(encoded[i]) for i in batch])
        torch.manual_seed(seed + start)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature > 0
            else {"do_sample": False}
        )
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=maximum,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=end,
                **sampling,
            )
        for index, row in zip(batch, output[:, longest:].tolist(), strict=True):
            cut = row.index(end) + 1 if end in row else len(row)
            answers[index] = Answer(
                tuple(row[:cut]), tokenizer.decode(row[:cut], skip_special_tokens=True), finished=end in row
            )
        between(min(start + _BATCH, len(order)))
    return [answers[index] for index in range(len(prompts))]
