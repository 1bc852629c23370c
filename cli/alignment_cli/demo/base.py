"""The demo's base model: a small Llama with a BPE tokenizer, trained here from nothing on generated text.

Called by the demo and by tests. It is large enough to copy facts from the prompt and to have habits of
wording, and small enough to be trained in about a minute on two cores.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_cli.demo.settings import BaseRecipe

__all__ = ["pretrain", "sample"]

EOS = "<eos>"
PAD = "<pad>"
_IGNORED = -100


def pretrain(
    examples: Sequence[tuple[str, str]],
    folder: Path,
    *,
    recipe: BaseRecipe | None = None,
    seed: int = 0,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> float:
    """Train a base on (prompt, text) examples and save it so that plain ``transformers`` loads it.

    progress: called with step, steps and the loss in nats per token. Returns the last loss.
    """
    recipe = recipe or BaseRecipe()
    torch.manual_seed(seed)
    tokenizer = _train_tokenizer(examples, recipe)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.hidden * 8 // 3,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    loss = _fit(model, tokenizer, examples, recipe, seed, progress)
    model.generation_config.do_sample = True
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return loss


@torch.no_grad()
def sample(
    folder: Path,
    prompts: Sequence[str],
    *,
    temperature: float = 1.0,
    maximum: int = 128,
    seed: int = 0,
    batch: int = 64,
) -> list[str]:
    """One sampled continuation per prompt, in order, without special tokens. maximum: new tokens."""
    torch.manual_seed(seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left")
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    texts = [""] * len(prompts)
    # Prompts of one length batch without padding waste.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        encoded = tokenizer(
            [prompts[i] for i in rows], padding=True, return_tensors="pt", return_token_type_ids=False
        )
        output: Any = model.generate(
            **encoded, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, max_new_tokens=maximum
        )
        new = output[:, encoded["input_ids"].shape[1] :]
        for i, text in zip(rows, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[i] = text
    return texts


def _train_tokenizer(examples: Sequence[tuple[str, str]], recipe: BaseRecipe) -> Any:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((prompt + text for prompt, text in examples), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def _ids(tokenizer: Any, prompt: str, text: str) -> tuple[list[int], list[int]]:
    # Prompt and text apart, as every later stage encodes them, so that the seam is the same everywhere.
    return tokenizer.encode(prompt), [*tokenizer.encode(text), tokenizer.eos_token_id]


def _fit(
    model: Any,
    tokenizer: Any,
    examples: Sequence[tuple[str, str]],
    recipe: BaseRecipe,
    seed: int,
    progress: Callable[[int, int, float], None],
) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0.01)
    warmup = max(1, recipe.steps // 20)

    def rate(step: int) -> float:
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / recipe.steps)) + 0.02)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    last = math.nan
    model.train()
    for step, chosen in enumerate(_batches(len(examples), recipe, random.Random(seed))):
        ids, labels = _pad([_ids(tokenizer, *examples[i]) for i in chosen], model.config.pad_token_id)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        last = float(loss.detach())
        progress(step + 1, recipe.steps, last)
    model.eval()
    return last


def _batches(count: int, recipe: BaseRecipe, rng: random.Random) -> Iterator[list[int]]:
    for _ in range(recipe.steps):
        yield [rng.randrange(count) for _ in range(recipe.examples_per_step)]


def _pad(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, (rows, longest); no mask is needed under causal attention.

    Only the text is learned: the prompt is a random draw, and its loss would drown the copying of facts.
    """
    width = max(len(prompt) + len(text) for prompt, text in rows)
    gaps = [width - len(prompt) - len(text) for prompt, text in rows]
    ids = [prompt + text + [pad] * gap for (prompt, text), gap in zip(rows, gaps, strict=True)]
    labels = [
        [_IGNORED] * len(prompt) + text + [_IGNORED] * gap
        for (prompt, text), gap in zip(rows, gaps, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(labels)
