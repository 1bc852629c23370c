"""What a user would write instead of prepare, with plain ``datasets``; measured by ``tools.bench.data``.

Download, read, keep changed edits, drop exact duplicates, split by group, write parquet. No pairing of signals, no chains,
no near-duplicates, no contradictions, no quarantine, no lineage.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from datasets import load_dataset

__all__ = ["main"]


def main(prefix: str) -> int:
    """Prepare the objects below ``prefix``; writes the number of pairs to $BENCH_OUT."""
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["BENCH_ENDPOINT"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    with tempfile.TemporaryDirectory(dir=Path(os.environ["HF_HOME"]).parent) as name:
        folder = Path(name)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix=prefix)
        for item in (item for page in pages for item in page["Contents"]):
            client.download_file("bench", item["Key"], str(folder / Path(item["Key"]).name))
        rows = load_dataset("json", data_files=str(folder / "*.jsonl.gz"), split="train")
        rows = rows.filter(lambda row: row["signal"] == "edit" and row["edited"] != row["response"])
        seen: set[bytes] = set()

        def new(row: dict[str, Any]) -> bool:
            text = "\x1f".join((row["prompt"], row["response"], row["edited"]))
            key = hashlib.sha256(text.encode()).digest()
            before = len(seen)
            seen.add(key)
            return len(seen) > before

        rows = rows.filter(new)
        rows = rows.map(lambda row: {"held": hashlib.sha256(row["group"].encode()).digest()[0] < 51})
        rows.filter(lambda row: row["held"]).to_parquet(str(folder / "holdout.parquet"))
        rows.filter(lambda row: not row["held"]).to_parquet(str(folder / "train.parquet"))
        Path(os.environ["BENCH_OUT"]).write_text(str(len(rows)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
