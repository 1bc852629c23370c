"""``make bench-operator``: latency, burst, writes per stage, memory, cold start and scrape, as one table.

etcd and kube-apiserver are real and on the same machine; the Jobs' pods are scripted. The operator runs with its
default settings but for the reading of progress.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from alignment_api.names import GROUP, PLURAL, STAGES
from tools.bench.operator.client import Client
from tools.bench.operator.control_plane import control_plane
from tools.bench.operator.process import Operator
from tools.bench.operator.robot import CRITERIA, Robot

Json = dict[str, Any]
_ROOT = Path(__file__).parents[3]
_SPACE = "bench"
_RUNS = f"/apis/{GROUP}/v1alpha1/namespaces/{_SPACE}/{PLURAL}"
_JOBS = f"/apis/batch/v1/namespaces/{_SPACE}/jobs"
_PODS = f"/api/v1/namespaces/{_SPACE}/pods"
_EVENTS = f"/api/v1/namespaces/{_SPACE}/events"


class Table:
    """Rows as they are measured, printed as Markdown."""

    def __init__(self) -> None:
        print("| what | measured | goal |\n|---|---|---|", flush=True)

    def row(self, what: str, measured: str, goal: str) -> None:
        """Add a row."""
        print(f"| {what} | {measured} | {goal} |", flush=True)


PHASES = ("latency", "stages", "burst", "finished")


async def measure(folder: Path, kubeconfig: Path, phases: list[str], *, many: int, seconds: int) -> None:
    """The phases asked for, one after the other."""
    async with Client(kubeconfig) as client:
        await client.ready()
        await _install(client)
        table = Table()
        async with Operator(kubeconfig, folder) as operator:
            if "latency" in phases:
                await _latency(client, table, seconds)
                await _clear(client)
                await operator.idle()
            finished = await _stages(client, operator, table)
            await _clear(client)
            await operator.idle()
            if "burst" in phases:
                await _burst(client, table, many)
        if "burst" in phases:
            async with Operator(kubeconfig, folder) as operator:
                done = f"{await operator.idle():.1f} s until all were looked at"
                table.row(f"cold start, {many:,} runs with a waiting Job", done, "10 s")
            await _clear(client)
        if "finished" in phases:
            await _finished(client, finished, many)
            async with Operator(kubeconfig, folder) as operator:
                ready = f"{operator.seconds_to_ready:.1f} s until ready"
                table.row(f"cold start, {many:,} finished runs", ready, "10 s")
                await _memory(operator, table, many)
                await _scrapes(operator, table, many)


async def _latency(client: Client, table: Table, seconds: int) -> None:
    """Twenty runs a second; from the run's event to its Job's event, both as a watcher sees them."""
    runs: dict[str, float] = {}
    jobs: dict[str, float] = {}
    async with _watching(client, runs, jobs):
        for number in range(20 * seconds):
            await client.call("POST", _RUNS, _run(f"steady-{number}"))
            await asyncio.sleep(0.05)
        await _until(lambda: len(jobs) >= 20 * seconds, 60)
    delays = sorted(1000 * (jobs[f"{name}-prepare-1"] - at) for name, at in runs.items())
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    table.row(
        f"run created to Job created, 20 per second, {len(delays)} runs",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        "p99 50 ms",
    )


async def _burst(client: Client, table: Table, many: int) -> None:
    jobs: dict[str, float] = {}
    async with _watching(client, {}, jobs):
        began = time.monotonic()
        await _create(client, [_run(f"burst-{number}") for number in range(many)])
        created = time.monotonic() - began
        await _until(lambda: len(jobs) >= many, 600)
    took = max(jobs.values()) - began
    table.row(
        f"{many:,} runs at once until all Jobs exist",
        f"{took:.0f} s (creating the runs took {created:.0f} s)",
        "90 s",
    )


async def _stages(client: Client, operator: Operator, table: Table, count: int = 40) -> Json:
    """Whole runs: what the operator writes and how often it looks, by stage. Returns a finished status."""

    def wrote(labels: str) -> bool:
        return (
            any(f'verb="{verb}"' in labels for verb in ("create", "patch-status", "delete"))
            and 'resource="events"' not in labels
        )

    robot = Robot(client)
    watch = asyncio.ensure_future(client.watch(_JOBS, robot.seen))
    await asyncio.sleep(0.5)
    writes = await operator.value("alignment_operator_api_requests_total", wrote)
    looks = await operator.value("alignment_operator_reconcile_total")
    events = await operator.value(
        "alignment_operator_api_requests_total", lambda labels: 'resource="events"' in labels
    )
    for number in range(count):
        await client.call("POST", _RUNS, _run(f"whole-{number}"))
        await asyncio.sleep(0.05)
    for _ in range(600):
        found = (await client.call("GET", _RUNS))["items"]
        if all(_is_published(raw) for raw in found):
            break
        await asyncio.sleep(0.5)
    else:
        raise RuntimeError("the runs do not finish")
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    stages = count * len(STAGES)
    writes = await operator.value("alignment_operator_api_requests_total", wrote) - writes
    looks = await operator.value("alignment_operator_reconcile_total") - looks
    events = (
        await operator.value(
            "alignment_operator_api_requests_total", lambda labels: 'resource="events"' in labels
        )
        - events
    )
    table.row(
        f"writes per stage, {count} runs to their end",
        f"{writes / stages:.2f}, and {events / stages:.2f} Events",
        "4",
    )
    table.row("reconciliations per stage", f"{looks / stages:.2f}", "8")
    status: Json = found[0]["status"]
    return status


async def _finished(client: Client, status: Json, many: int) -> None:
    """So many finished runs, all with the status that a real one has got."""
    names = [f"done-{number}" for number in range(many)]
    await _create(client, [_run(name) for name in names])
    limit = asyncio.Semaphore(24)

    async def finish(name: str) -> None:
        async with limit:
            await client.status(f"{_RUNS}/{name}", status)

    await asyncio.gather(*(finish(name) for name in names))


async def _memory(operator: Operator, table: Table, many: int) -> None:
    await operator.idle()
    await asyncio.sleep(25)  # the first resync is over
    now, most = operator.megabytes(), operator.megabytes("VmHWM")
    table.row(f"resident memory, {many:,} finished runs", f"{now:.0f} MiB ({most:.0f} at most)", "256 MiB")


async def _scrapes(operator: Operator, table: Table, many: int) -> None:
    times = []
    pings: list[float] = []
    ended = asyncio.Event()

    async def ping() -> None:
        while not ended.is_set():
            began = time.monotonic()
            await operator.get("/healthz")
            pings.append(1000 * (time.monotonic() - began))
            await asyncio.sleep(0.005)

    pinging = asyncio.ensure_future(ping())
    text = ""
    for _ in range(10):
        began = time.monotonic()
        text = await operator.scrape()
        times.append(1000 * (time.monotonic() - began))
    ended.set()
    await pinging
    per_run = sum(line.startswith("alignment_run_") for line in text.splitlines()) / many
    table.row(
        f"scrape, {many:,} runs, {per_run:.0f} series each",
        f"median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms, {len(text) / 1e6:.1f} MB",
        "300 ms",
    )
    pings.sort()
    table.row(
        "the loop's answer during scrapes",
        f"median {statistics.median(pings):.0f} ms, p99 {pings[int(len(pings) * 0.99)]:.0f} ms",
        "not blocked",
    )
    table.row("resident memory after ten scrapes", f"{operator.megabytes():.0f} MiB", "256 MiB")


# -- the cluster ----------------------------------------------------------------------------------------


async def _install(client: Client) -> None:
    crd = yaml.safe_load((_ROOT / "crds" / f"{PLURAL}.{GROUP}.yaml").read_text())
    await client.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    await client.call("POST", "/api/v1/namespaces", {"metadata": {"name": _SPACE}})
    for _ in range(100):
        with suppress(RuntimeError):
            await client.call("GET", _RUNS)
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("the resource is not served")


async def _clear(client: Client) -> None:
    for path in (_RUNS, _JOBS, _PODS, _EVENTS):
        await client.call("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})


async def _create(client: Client, runs: list[Json]) -> None:
    limit = asyncio.Semaphore(24)

    async def create(raw: Json) -> None:
        async with limit:
            await client.call("POST", _RUNS, raw)

    await asyncio.gather(*map(create, runs))


@asynccontextmanager
async def _watching(client: Client, runs: dict[str, float], jobs: dict[str, float]) -> AsyncIterator[None]:
    def into(known: dict[str, float]) -> Any:
        return lambda kind, raw, at: (
            known.setdefault(raw["metadata"]["name"], at) if kind == "ADDED" else None
        )

    watches = [
        asyncio.ensure_future(client.watch(path, into(known)))
        for path, known in ((_RUNS, runs), (_JOBS, jobs))
    ]
    await asyncio.sleep(0.5)
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.wait(watches)


async def _until(done: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise RuntimeError(f"not done after {seconds:.0f} s")
        await asyncio.sleep(0.05)


def _is_published(raw: Json) -> bool:
    return any(c["reason"] == "Published" for c in (raw.get("status") or {}).get("conditions") or ())


def _run(name: str) -> Json:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "AlignmentRun",
        "metadata": {"name": name, "namespace": _SPACE},
        "spec": {
            "model": {"uri": "s3://models/notes-sft/"},
            "data": {
                "sources": [{"uri": "s3://feedback/notes/**/*.jsonl.gz"}],
                "holdout": {"salt": "notes-v1"},
            },
            "training": {"lora": {"rank": 16, "alpha": 32}},
            "evaluation": {"champion": {"uri": "s3://models/notes/aliases/champion"}},
            "gate": {"criteria": list(CRITERIA)},
            "publish": {"uri": "s3://models/notes/"},
            "artifacts": {"uri": "s3://artifacts/"},
            "storage": {"endpoint": "http://s3.storage.svc:7070", "credentialsSecretRef": {"name": "s3"}},
            "pods": {"train": {"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "64Gi"}}}},
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the operator against a real API server.")
    parser.add_argument("--runs", type=int, default=5000, help="how many runs are many")
    parser.add_argument("--seconds", type=int, default=30, help="how long to create 20 runs per second")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES), help="what to measure")
    parser.add_argument(
        "--realtime", action="store_true", help="before all other programs of a busy machine (needs root)"
    )
    given = parser.parse_args()
    if given.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # and so for everything that is started here
    with (
        tempfile.TemporaryDirectory(prefix="bench-operator-") as name,
        control_plane(Path(name)) as kubeconfig,
    ):
        print(f"{os.cpu_count()} CPUs shared with etcd, kube-apiserver and the measurement\n", flush=True)
        asyncio.run(measure(Path(name), kubeconfig, given.phases, many=given.runs, seconds=given.seconds))


if __name__ == "__main__":
    main()
