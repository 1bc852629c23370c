"""``python -m tools.bench.operator.store``: memory and rendering time of many finished runs, without any cluster.

What the process holds besides (kopf, connections, garbage of listings) only ``make bench-operator`` shows.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from alignment_api.run import AlignmentRun
from alignment_api.stage import RunIdentity, StageRequest
from alignment_operator.metrics import Metrics, OperatorState
from alignment_operator.records import run_record
from alignment_operator.store import Store
from tools.bench.operator.robot import CRITERIA, result

_MANY = 5000


def _finished(number: int) -> dict[str, Any]:
    metadata = {
        "name": f"run-{number}",
        "namespace": "bench",
        "uid": f"uid-{number}",
        "resourceVersion": str(number + 1),
    }
    spec = {
        "model": {"uri": "s3://models/notes-sft/"},
        "data": {"sources": [{"uri": "s3://feedback/notes/**/*.jsonl.gz"}]},
        "gate": {"criteria": list(CRITERIA)},
        "publish": {"uri": "s3://models/notes/"},
        "artifacts": {"uri": "s3://artifacts/"},
    }
    run = AlignmentRun.model_validate({"metadata": metadata, "spec": spec})
    identity = RunIdentity(name=run.metadata.name, namespace="bench", uid=run.metadata.uid)
    answers = [
        result(StageRequest(stage=stage, run=identity, spec=run.spec)).to_wire()
        for stage in ("prepare", "evaluate")
    ]
    moment = "2026-01-05T12:00:00Z"
    stages = [
        {
            "name": name,
            "attempt": 1,
            "endTime": moment,
            "runningSeconds": 60.5,
            "artifactUri": "s3://artifacts/x/",
        }
        for name in ("prepare", "train", "evaluate", "publish")
    ]
    conditions = [
        {"type": "Succeeded", "status": "True", "reason": "Published", "lastTransitionTime": moment}
    ]
    criteria = [
        {**c["criterion"], "result": "Passed", "estimate": c["estimate"]}
        for c in answers[1]["evidence"]["criteria"]
    ]
    status = {"conditions": conditions, "stages": stages, "data": answers[0]["data"], "pins": answers[0]["pins"],
              "metrics": answers[1]["metrics"], "verdict": {"result": "Passed", "criteria": criteria}}  # fmt: skip
    return {"metadata": metadata, "spec": run.spec.to_wire(), "status": status}


def _resident() -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure and print."""
    text = json.dumps(_finished(0))
    store, before = Store(), _resident()
    for number in range(_MANY):
        store.put_run(run_record(_finished(number)))
    held = _resident() - before
    metrics, times = Metrics(per_run=True), []
    body = b""
    for _ in range(7):
        began = time.process_time()
        body = metrics.render(OperatorState(tuple(store.runs()), {}))
        times.append(1000 * (time.process_time() - began))
    print(f"{_MANY:,} finished runs of {len(text) / 1024:.1f} KiB each: {held:.0f} MiB held")
    print(f"rendering {len(body) / 1e6:.1f} MB of metrics: median {statistics.median(times):.0f} ms of CPU")


if __name__ == "__main__":
    main()
