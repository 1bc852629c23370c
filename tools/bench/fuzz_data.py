"""Feeds prepare's loader damaged and hostile files until the time is over: ``python -m tools.bench.fuzz_data``.

The claim: whatever the bytes are, a row is accepted or quarantined, or the run stops with exit code 65; and the funnel
adds up. What breaks it is kept in ``tests/data/fuzz/``, which a test replays for ever after.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from alignment_api.spec import DataSpec
from alignment_trainer.data.assemble import Assembly, assemble
from alignment_trainer.errors import DataError
from alignment_trainer.storage.registry import Stores

__all__ = ["CORPUS", "main", "outcome"]

CORPUS: Final = Path(__file__).parents[2] / "tests" / "data" / "fuzz"
_ROWS_PER_FILE: Final = 60
_USER: Final = {"role": "user", "content": "How far is the moon?"}
_GOOD: Final = {"role": "assistant", "content": "About 384,000 km."}
_BAD: Final = {"role": "assistant", "content": "Very far, a@b.org, 2026-01-05 <|end|>."}
_EVENT: Final = {
    "id": "e1", "time": "2026-01-05T12:00:00Z", "prompt": "Say something of the garden.", "response": "It is a garden.",
    "edited": "It is a green garden with a bench.", "other": "No.", "group": "g1", "actor": "a1", "cohort": "c", "model": "m",
}  # fmt: skip
_SEEDS: Final[list[dict[str, Any]]] = [
    *({**_EVENT, "signal": name} for name in ("accept", "edit", "thumbs_up", "thumbs_down", "prefer")),
    {**_EVENT, "signal": "edit", "prompt": [_USER]},
    {"prompt": "Moon?", "chosen": "Far away.", "rejected": "Near.", "weight": 0.5, "origin": "synthetic", "kind": "edit"},
    {"chosen": "The moon is far", "rejected": "The moon is flat"},
    {"prompt": [_USER], "chosen": [_GOOD], "rejected": [_BAD], "time": 1767614400},
    {"chosen": [_USER, _GOOD], "rejected": [_USER, _BAD], "group": 7},
    {"input": {"messages": [_USER], "tools": [{"type": "function", "function": {"name": "f"}}]},
     "preferred_output": [_GOOD], "non_preferred_output": [_BAD]},
    {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello there.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go."},
]  # fmt: skip
_VALUES: Final[list[Any]] = [
    None, True, False, 0, -1, 10**18, 10**400, 1e308, -0.0, "", " ", "\u0000", "\u200b", "\ud800", "😀" * 3, "a" * 600, "x" * 70_000,
    [], {}, [[]], [None], [{}], {"role": "user"}, [{"role": "user", "content": None}], [{"role": "user", "content": [1]}],
    [{"role": "assistant", "tool_calls": [{"f": 1}]}], "accept", "edit", "Human: a\n\nAssistant: b", "2026-02-30", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-W01-1", 99999999999999, -62135596800, 253402300800, "\n\nHuman:", "\n\nAssistant:", "<|end|>",
    "../../etc/passwd", "\r\n\x85\u2028", "e\u0301", "ﷺ" * 20, "a@b.org", {"a": {"b": {"c": [1, 2, {"d": None}]}}},
]  # fmt: skip
_TOKENS: Final = [
    b"\x00", b"\xff", b"\xfe\xff", b"\n", b"\r", b'"', b"\\", b"{", b"}", b"[" * 2000, b"]", b",", b":", b"NaN", b"Infinity", b"1e999",
    b"-", b"\\ud800", b"\\udfff", b"\\u0000", b"null", b"9" * 5000, b"\xef\xbb\xbf", b"\xed\xa0\x80", b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd",
]  # fmt: skip


def outcome(path: Path) -> str:
    """What became of a file: ``accepted``, ``quarantined`` or ``refused``. Anything else is raised."""
    spec = DataSpec.model_validate(
        {
            "sources": [{"uri": path.as_uri()}],
            "redaction": {"mode": "Replace", "detectors": ["emails", "dates"]},
            "holdout": {"fraction": 0.5},
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        work = Assembly(store=Stores(), scratch=Path(scratch), special=frozenset({"<|end|>"}))
        try:
            found = assemble(spec, work)
        except DataError:
            return "refused"
        found.account.write_quarantine(Path(scratch) / "quarantine.jsonl")
        quarantined = (Path(scratch) / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
        funnel = found.funnel
        merged = funnel.dropped.get("collapsed", 0) + funnel.dropped.get("joined", 0)
        assert len(quarantined) == funnel.rows - funnel.pairs - merged
        assert all(json.loads(line)["reason"] for line in quarantined)
        return "quarantined" if funnel.invalid else "accepted"


def main(arguments: list[str]) -> int:
    """Fuzz; exit code 1 when anything was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    counts: Counter[str] = Counter()
    found: dict[str, str] = {}
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as name:
        while time.monotonic() < end:
            suffix, content = _case(rng)
            path = Path(name) / f"x{suffix}"
            path.write_bytes(content)
            try:
                counts[outcome(path)] += 1
            except Exception as error:  # noqa: BLE001  what is looked for
                counts["broken"] += 1
                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                if where not in found:
                    kept = CORPUS / f"{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
                    CORPUS.mkdir(parents=True, exist_ok=True)
                    kept.write_bytes(content)
                    found[where] = kept.name
                    print(f"{where}: {error!s:.200} ({kept.name})", flush=True)
    print(
        f"{sum(counts.values())} files of up to {_ROWS_PER_FILE} rows: {dict(counts)}, {len(found)} different faults"
    )
    return 1 if found else 0


def _case(rng: random.Random) -> tuple[str, bytes]:
    rows = [_mutated_row(rng) for _ in range(rng.randint(1, _ROWS_PER_FILE))]
    kind = rng.randrange(8)
    if kind == 0:
        return ".parquet", _mutated_bytes(_parquet(rows, rng), rng, share=rng.random() < 0.5)
    lines = b"\n".join(_line(row, rng) for row in rows)
    if kind in (1, 2):
        lines = _mutated_bytes(lines, rng, share=True)
    if kind in (3, 4):
        return ".jsonl.gz", _mutated_bytes(gzip.compress(lines, 1), rng, share=kind == 3)
    if kind == 5:
        return ".jsonl.zst", _mutated_bytes(zstandard.compress(lines), rng, share=rng.random() < 0.7)
    return ".jsonl", lines


def _line(row: Any, rng: random.Random) -> bytes:
    if rng.random() < 0.02:
        return b" " * rng.randrange(50)
    return json.dumps(row, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _mutated_row(rng: random.Random) -> Any:
    row: Any = json.loads(json.dumps(rng.choice(_SEEDS)))
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        row = _mutated_value(row, rng)
    return row


def _mutated_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with something in it changed, anywhere."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        action = rng.random()
        if action < 0.15:
            del value[key]
        elif action < 0.25:
            value[rng.choice([*_EVENT, "signal", "weight", "input", "chosen", "rejected", "role"])] = (
                deepcopy(rng.choice(_VALUES))
            )
        else:
            value[key] = _mutated_value(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.9:
        number = rng.randrange(len(value))
        action = rng.random()
        if action < 0.2:
            value.append(deepcopy(rng.choice(_VALUES)))
        elif action < 0.4:
            value.pop(number)
        else:
            value[number] = _mutated_value(value[number], rng)
        return value
    return deepcopy(rng.choice(_VALUES))


def _mutated_bytes(data: bytes, rng: random.Random, *, share: bool) -> bytes:
    if not share:
        return data
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(out) + 1)
        action = rng.randrange(5)
        if action == 0 and out:
            out[min(place, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif action == 1:
            out[place:place] = rng.choice(_TOKENS)
        elif action == 2:
            del out[place : place + rng.randrange(1, 64)]
        elif action == 3:
            out[place:place] = out[place : place + rng.randrange(1, 256)]
        else:
            del out[place:]
    return bytes(out)


def _parquet(rows: list[Any], rng: random.Random) -> bytes:
    """Rows as parquet where arrow finds a schema for them, else of the plainest ones."""
    buffer = io.BytesIO()
    wanted = [row for row in rows if isinstance(row, dict)] or [dict(_EVENT)]
    names = {name: None for row in wanted for name in row}
    try:
        table = pa.Table.from_pylist([names | row for row in wanted[: rng.randint(1, 20)]])
        pq.write_table(table, buffer)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([dict(_EVENT) | {"signal": "edit"}] * 3), buffer)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
