"""How long prepare takes and how much memory: events of 1 KB from a real S3 server, against plain ``datasets``.

    make bench-data                       10,000, 100,000 and 1,000,000 events; prints the table of docs/data.md
    python -m tools.bench.data --events 10000 100000

Each cell is one process of its own, on the same objects: ``alignment-trainer prepare`` as a pod would run it, and what a
user would otherwise write with ``datasets`` (download, read, drop exact duplicates, split by group, write parquet).
Times are wall clock with CPU seconds beside them; memory is the process's peak resident size as the kernel has it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alignment_api.names import StageName
from alignment_api.run import AlignmentRun
from alignment_api.stage import RunIdentity, StageRequest, StageResult, read_termination_message
from support import s3server
from support.models import full_weights
from support.tiny import save_tiny_tokenizer
from tools.bench.events import event_lines

__all__ = ["main"]

_PER_FILE: Final = 20_000
_BUCKET: Final = "bench"


@dataclass(frozen=True)
class Measured:
    """One process: wall and CPU seconds, peak resident bytes, pairs or rows that came out."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    out: int


def main(arguments: list[str]) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where objects and scratch lie (default: temporary)")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        s3server.running(Path(name) / "s3" / "objects") as server,
    ):
        folder = Path(name)
        server.create_bucket(_BUCKET)
        model = folder / "model"
        full_weights(model)
        save_tiny_tokenizer(model)
        print(
            "| events | | seconds | CPU seconds | µs an event | peak MiB | out |\n|---|---|---|---|---|---|---|"
        )
        for count in options.events:
            _upload(server, count)
            for what, measured in (
                ("prepare", _prepare(server, folder, count)),
                ("`datasets`", _datasets(server, folder, count)),
            ):
                print(
                    f"| {count:,} | {what} | {measured.seconds:.1f} | {measured.cpu_seconds:.1f} "
                    f"| {1e6 * measured.seconds / count:.0f} | {measured.peak_bytes / 2**20:.0f} | {measured.out:,} |",
                    flush=True,
                )
    return 0


def _upload(server: s3server.S3Server, count: int) -> None:
    client = server.client()
    lines: list[bytes] = []
    part = 0
    for number, line in enumerate(event_lines(count), 1):
        lines.append(line)
        if number % _PER_FILE == 0 or number == count:
            body = gzip.compress(b"".join(lines), 1)
            client.put_object(Bucket=_BUCKET, Key=f"events-{count}/part-{part:04d}.jsonl.gz", Body=body)
            lines, part = [], part + 1


def _prepare(server: s3server.S3Server, folder: Path, count: int) -> Measured:
    wire = {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentRun",
        "metadata": {"name": f"bench-{count}"},
        "spec": {
            "model": {"uri": (folder / "model").as_uri() + "/"},
            "data": {"sources": [{"uri": f"s3://{_BUCKET}/events-{count}/*.jsonl.gz"}]},
            "publish": {"uri": f"s3://{_BUCKET}/models-{count}/"},
            "artifacts": {"uri": f"s3://{_BUCKET}/artifacts-{count}/"},
            "storage": server.spec.to_wire(),
        },
    }
    request = StageRequest(
        stage=StageName.PREPARE,
        run=RunIdentity(name=f"bench-{count}", uid="12345678-bench"),
        spec=AlignmentRun.model_validate(wire).spec,
    )
    file = folder / "request.json"
    file.write_text(json.dumps(request.to_wire()), encoding="utf-8")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "alignment_trainer.main", "prepare", "--request", str(file)]
    log = folder / "termination.json"
    measured = _run(
        command, server, {"ALIGNMENT_SCRATCH": str(scratch), "ALIGNMENT_TERMINATION_LOG": str(log)}
    )
    result = read_termination_message(log.read_text(encoding="utf-8"))
    assert isinstance(result, StageResult) and result.data is not None  # noqa: PT018
    return Measured(*measured, result.data.pairs)


def _datasets(server: s3server.S3Server, folder: Path, count: int) -> Measured:
    out = folder / "baseline.txt"
    command = [sys.executable, "-m", "tools.bench.data_baseline", f"events-{count}/"]
    environment = {
        "BENCH_ENDPOINT": server.endpoint,
        "BENCH_OUT": str(out),
        "HF_HOME": str(folder / f"hf-{count}"),
        "HF_HUB_OFFLINE": "1",
    }
    return Measured(*_run(command, server, environment), int(out.read_text(encoding="utf-8")))


def _run(
    command: list[str], server: s3server.S3Server, environment: dict[str, str]
) -> tuple[float, float, int]:
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=os.environ | server.environment | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said.decode()[-2000:]}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
