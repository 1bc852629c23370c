"""Models with random weights, tokenizers, and pairs: generic ones, edits of the same lengths, real edits where they are."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast
from transformers.trainer_pt_utils import get_length_grouped_indices

from alignment_trainer.data.rows import Kind, Pair, Place

__all__ = [
    "DATA",
    "REAL_EDITS",
    "SIZES",
    "describe_model",
    "make_pairs",
    "pairs_of",
    "random_weights",
]

_VOCABULARY: Final = 8192


@dataclass(frozen=True)
class Size:
    """A Llama's shape, and how many pairs keep the machine busy that it is for."""

    hidden: int
    layers: int
    heads: int = 4
    key_heads: int = 2
    inner: int = 0
    vocabulary: int = _VOCABULARY
    pairs_per_step: int = 8


SIZES: Final = {
    "tiny": Size(64, 2),
    "5M": Size(256, 4),
    "60M": Size(768, 8),
    "1B": Size(2048, 16, 32, 8, 8192, 128_256, pairs_per_step=16),
    "8B": Size(4096, 32, 32, 8, 14_336, 128_256, pairs_per_step=16),
}
"""The two large ones, for GPUs, have the shapes of Llama 3."""
DATA: Final = ("generic", "edits", "real", "short")
"""generic: prompts of 100 to 300 tokens, answers of 40 to 160. edits: the same lengths, three tokens of the answer
changed. real: people's edits of documentation. short: 20 to 40 and 10 to 20 tokens, for many pairs."""
REAL_EDITS: Final = Path(__file__).parents[3].parent / "shared" / "data" / "edits.jsonl.gz"
_NAMES: Final = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", "bos_token": "<bos>"}
_SPECIAL: Final = tuple(_NAMES.values())
Row = dict[str, str]


def describe_model(folder: Path, size: str, data: str) -> None:
    """Save the configuration of a Llama of this size, and the tokenizer that fits the data."""
    shape = SIZES[size]
    ids = {token: _VOCABULARY - len(_SPECIAL) + n for n, token in enumerate(_SPECIAL)}
    tokenizer = _trained_tokenizer() if data == "real" else _word_tokenizer(ids)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_NAMES).save_pretrained(folder)
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner or int(2.75 * shape.hidden) // 8 * 8,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.token_to_id("<pad>"),
        eos_token_id=tokenizer.token_to_id("<eos>"),
        bos_token_id=tokenizer.token_to_id("<bos>"),
    ).save_pretrained(folder)


def random_weights(folder: Path, device: str = "cpu") -> Any:
    """The model that a folder describes, in float32, with the same random weights each time on one kind of device."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)


def make_pairs(data: str, count: int, pairs_per_step: int) -> list[Row]:
    """``count`` pairs in the order of training: grouped by length as transformers does it, for the padded arms' sake."""
    rows = list(_real(count) if data == "real" else _invented(data, count))
    lengths = [len(row["prompt"].split()) + len(row["chosen"].split()) for row in rows]
    generator = torch.Generator().manual_seed(0)
    order = get_length_grouped_indices(lengths, pairs_per_step, generator=generator)
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
