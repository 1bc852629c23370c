"""Pairs as token ids, in a file on disk: memory stays the same whether there are 500 pairs or 500,000.

Tokenized as TRL tokenizes (``DPOTrainer._prepare_dataset``; a test compares): prompt and answer as one text with its
end token, cut where the prompt's tokens end on both sides. Pairs whose prompt alone fills ``maximum`` are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Final

from alignment_trainer.data.chat_template import apply_chat_template
from alignment_trainer.data.rows import Pair, Text

__all__ = ["COLUMNS", "supervised", "tokenize_pair", "tokenized"]

COLUMNS: Final = ("prompt_ids", "chosen_ids", "rejected_ids")
_ROWS_PER_WRITE: Final = 256
_NO_LABEL: Final = -100
"""torch's mark of a token that is not to be predicted."""


def tokenized(pairs: Iterable[Pair], tokenizer: Any, file: Path, *, maximum: int) -> Any:
    """``datasets.Dataset`` over ``file``, which is written anew, with :data:`COLUMNS`."""
    return _written(_rows(pairs, tokenizer, maximum), COLUMNS, file)


def supervised(pairs: Iterable[Pair], tokenizer: Any, file: Path, *, maximum: int) -> Any:
    """The same of the chosen side alone, cut to ``maximum`` tokens: ``input_ids``, and ``labels`` on the answer."""
    rows = (
        {
            "input_ids": [*row["prompt_ids"], *row["chosen_ids"]][:maximum],
            "labels": [*[_NO_LABEL] * len(row["prompt_ids"]), *row["chosen_ids"]][:maximum],
        }
        for row in _rows(pairs, tokenizer, maximum)
    )
    return _written(rows, ("input_ids", "labels"), file)


def _rows(pairs: Iterable[Pair], tokenizer: Any, maximum: int) -> Iterator[dict[str, list[int]]]:
    return (row for pair in pairs if len((row := tokenize_pair(pair, tokenizer))["prompt_ids"]) < maximum)


def _written(rows: Iterator[dict[str, list[int]]], columns: tuple[str, ...], file: Path) -> Any:
    import pyarrow as pa
    from datasets import Dataset

    schema = pa.schema([pa.field(name, pa.list_(pa.int32())) for name in columns])
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while chunk := list(islice(rows, _ROWS_PER_WRITE)):
            writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
    return Dataset.from_file(str(file))


def tokenize_pair(pair: Pair, tokenizer: Any) -> dict[str, list[int]]:
    """Token ids of the prompt that both sides share, and of the two answers after it."""
    chosen, rejected = (_ids(tokenizer, pair.prompt, side) for side in (pair.chosen, pair.rejected))
    prompt = _prompt_ids(tokenizer, pair.prompt)
    cut = min(_common(prompt, chosen), _common(prompt, rejected))
    return {"prompt_ids": prompt[:cut], "chosen_ids": chosen[cut:], "rejected_ids": rejected[cut:]}


def _prompt_ids(tokenizer: Any, prompt: Text) -> list[int]:
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return list(
        apply_chat_template(tokenizer, prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    )


def _ids(tokenizer: Any, prompt: Text, answer: Text) -> list[int]:
    if isinstance(prompt, str):
        assert isinstance(answer, str)  # noqa: S101  both sides of a pair have one form
        ended = answer if answer.endswith(tokenizer.eos_token) else answer + tokenizer.eos_token
        return list(tokenizer(prompt + ended)["input_ids"])
    assert not isinstance(answer, str)  # noqa: S101
    return list(apply_chat_template(tokenizer, prompt + answer, return_dict=True)["input_ids"])


def _common(first: list[int], second: list[int]) -> int:
    equal: Iterator[bool] = (a == b for a, b in zip(first, second, strict=False))
    return sum(takewhile(bool, equal))
