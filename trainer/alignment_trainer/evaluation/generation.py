"""Generated answers, sampled in batches with a seed of their own per batch, so that a rerun gives the same texts.

They are the model's own distribution: penalties and filters that its folder recommends (generation_config.json) are left
out, and an answer ends with any token that ends one: the tokenizer's, those that the folder names, and the one that closes
an assistant's turn in the chat template (which for many chat models is none of the former).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from alignment_trainer.data.chat_template import apply_chat_template
from alignment_trainer.evaluation.scoring import encode_prompt

__all__ = ["Answer", "end_tokens", "generate"]

_BATCH = 64
_MARK = "the-answer-ends-here"


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
    ends = end_tokens(model, tokenizer, prompts)
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
        with torch.inference_mode(), _neutral(model):
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=maximum,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=sorted(ends),
                **sampling,
            )
        for index, row in zip(batch, output[:, longest:].tolist(), strict=True):
            cut = next((at for at, token in enumerate(row) if token in ends), None)
            text = tokenizer.decode(row[:cut], skip_special_tokens=True)
            ids = row if cut is None else row[: cut + 1]
            answers[index] = Answer(tuple(ids), text, finished=cut is not None)
        between(min(start + _BATCH, len(order)))
    return [answers[index] for index in range(len(prompts))]


def end_tokens(model: Any, tokenizer: Any, prompts: Sequence[Any]) -> frozenset[int]:
    """Ids of the tokens that end an answer to these prompts."""
    named = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])}
    conversation = next((prompt for prompt in prompts if not isinstance(prompt, str)), None)
    if conversation is not None:
        answered = [*conversation, {"role": "assistant", "content": _MARK}]
        whole = apply_chat_template(tokenizer, answered, tokenize=False)
        tail = whole.rpartition(_MARK)[2].lstrip()
        first = tokenizer(tail, add_special_tokens=False)["input_ids"][:1] if tail else []
        ends.update(token for token in first if token in tokenizer.added_tokens_decoder)
    return frozenset(ends)


@contextmanager
def _neutral(model: Any) -> Iterator[None]:
    """Without the folder's own settings, which generate() would take for everything that it is not told."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
