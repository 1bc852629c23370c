"""Models with random weights, tokenizers, and pairs: generic ones, edits of the same lengths, real edits where they are."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_pt_utils import get_length_grouped_indices

from alignment_trainer.data.rows import Kind, Pair, Place

__all__ = ["DATA", "PAIRS_PER_STEP", "REAL_EDITS", "SIZES", "make_model", "make_pairs", "pairs_of"]

SIZES: Final = {"tiny": (64, 2), "5M": (256, 4), "60M": (768, 8)}
"""Hidden size and layers; four query heads, two key heads, a vocabulary of 8192."""
DATA: Final = ("generic", "edits", "real", "short")
"""generic: prompts of 100 to 300 tokens, answers of 40 to 160. edits: the same lengths, three tokens of the answer
changed. real: people's edits of documentation. short: 20 to 40 and 10 to 20 tokens, for many pairs."""
PAIRS_PER_STEP: Final = 8
REAL_EDITS: Final = Path(__file__).parents[3].parent / "shared" / "data" / "edits.jsonl.gz"
_VOCABULARY: Final = 8192
_NAMES: Final = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", "bos_token": "<bos>"}
_SPECIAL: Final = tuple(_NAMES.values())
Row = dict[str, str]


def make_model(folder: Path, size: str, data: str) -> None:
    """A Llama of this size with the tokenizer that fits the data, saved."""
    hidden, layers = SIZES[size]
    ids = {token: _VOCABULARY - len(_SPECIAL) + n for n, token in enumerate(_SPECIAL)}
    tokenizer = _trained_tokenizer() if data == "real" else _word_tokenizer(ids)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_NAMES).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_VOCABULARY,
            hidden_size=hidden,
            intermediate_size=int(2.75 * hidden) // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.token_to_id("<pad>"),
            eos_token_id=tokenizer.token_to_id("<eos>"),
            bos_token_id=tokenizer.token_to_id("<bos>"),
        )
    ).save_pretrained(folder)


def make_pairs(data: str, count: int) -> list[Row]:
    """``count`` pairs in the order of training: grouped by length as transformers does it, for the padded arms' sake."""
    rows = list(_real(count) if data == "real" else _invented(data, count))
    lengths = [len(row["prompt"].split()) + len(row["chosen"].split()) for row in rows]
    generator = torch.Generator().manual_seed(0)
    order = get_length_grouped_indices(lengths, PAIRS_PER_STEP, generator=generator)
    return [rows[index] for index in order]


def pairs_of(rows: list[Row]) -> Iterator[Pair]:
    """The rows as prepare would hand them on."""
    for number, row in enumerate(rows):
        yield Pair(
            id=f"p{number}",
            place=Place("bench", number + 1),
            prompt=row["prompt"],
            chosen=row["chosen"],
            rejected=row["rejected"],
            kind=Kind.PREFERENCE,
            group=f"g{number}",
        )


def _invented(data: str, count: int) -> Iterator[Row]:
    draw = random.Random(1)
    prompts, answers = ((20, 40), (10, 20)) if data == "short" else ((100, 300), (40, 160))

    def words(number: int) -> list[str]:
        return [f"w{draw.randrange(_VOCABULARY - len(_SPECIAL))}" for _ in range(number)]

    for _ in range(count):
        prompt, chosen = words(draw.randint(*prompts)), words(draw.randint(*answers))
        if data == "edits":
            rejected = list(chosen)
            for _ in range(3):
                rejected[draw.randrange(len(chosen) // 3, len(chosen))] = words(1)[0]
        else:
            rejected = words(draw.randint(*answers))
        yield {
            "prompt": " ".join(prompt),
            "chosen": f" {' '.join(chosen)} <eos>",
            "rejected": f" {' '.join(rejected)} <eos>",
        }


def _real(count: int) -> Iterator[Row]:
    with gzip.open(REAL_EDITS, "rt", encoding="utf-8") as file:
        for _, line in zip(range(count), file, strict=False):
            row = json.loads(line)
            yield {
                "prompt": row["prompt"],
                "chosen": f"\n{row['edited']}<eos>",
                "rejected": f"\n{row['response']}<eos>",
            }


def _word_tokenizer(ids: dict[str, int]) -> Any:
    vocabulary = {f"w{n}": n for n in range(_VOCABULARY - len(_SPECIAL))} | ids
    tokenizer = Tokenizer(models.WordLevel(vocabulary, _NAMES["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _trained_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (part for row in _real(1_000_000) for part in row.values())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
