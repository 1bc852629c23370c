"""Stage train: optional supervised warm start, then DPO, then the candidate with its training record."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import platform
import resource
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment_api.names import StageName
from alignment_api.stage import ArtifactRef, StageResult, TrainingSummary
from alignment_trainer.data.snapshot import Split
from alignment_trainer.data.split import Side
from alignment_trainer.models.fetch import LocalModel, fetch_model
from alignment_trainer.models.resolve import digest_cache
from alignment_trainer.runtime.collector import collector_at_rest
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.inputs import require_unchanged
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import fetch_folder, file_sha256, read_sums, sums_digest, upload_folder
from alignment_trainer.training.checkpoints import kept
from alignment_trainer.training.dataset import Part, select_slice
from alignment_trainer.training.schedule import Schedule, make_schedule
from alignment_trainer.training.traits import read_traits

if TYPE_CHECKING:
    from alignment_trainer.training.group import Group

__all__ = ["run"]

_log = logging.getLogger(__name__)


def run(context: StageContext) -> StageResult:
    """Carry out train. Raises RequestError for a model or setting that does not fit, Stopped after a checkpoint."""
    started, clock = datetime.now(UTC), time.monotonic()
    os.environ["HF_HOME"] = str(context.scratch / "huggingface")  # before the libraries read it
    with collector_at_rest():
        from alignment_trainer.training.group import join
        from alignment_trainer.training.policy import load_policy, load_tokenizer, save_policy

    group = join(context.crew, context.stop)
    request = context.request
    spec = request.spec.training
    assert request.pins is not None  # noqa: S101  the contract: only prepare has none
    pairs = _train_side(context, group)
    pin, cache = request.pins.model, digest_cache(request.spec)
    model = group.once_per_node(
        lambda: fetch_model(pin, context.store, context.scratch / "models", cache=cache), LocalModel
    )
    with collector_at_rest():
        from alignment_trainer.training.loops import run_dpo

        tokenizer = load_tokenizer(model)
    train, selection = select_slice(pairs, spec.selection_fraction)
    plan = make_schedule(spec, read_traits(train, model.read_file), processes=group.size)
    warm_steps = (
        math.ceil(len(train) / plan.pairs_per_step) * spec.warm_start.epochs if spec.warm_start else 0
    )
    base = _base_of(model, request.pins.model.uri, request.pins.model.digest) if spec.lora else None
    log: list[dict[str, Any]] = []
    warm_digest = ""
    if spec.warm_start is not None:
        warm, warm_log, warm_digest = _warm_start(
            context, group, model, tokenizer, train, plan, warm_steps, base
        )
        log += warm_log
        policy = load_policy(model, spec, warm=warm, processes=group.size)
    else:
        policy = load_policy(model, spec, processes=group.size)
    fresh = spec.lora is not None and spec.warm_start is None and not model.adapter
    names = {
        "model": request.pins.model.digest,
        "warmStart": warm_digest,
        "tokenizer": file_sha256(model.tokenizer / "tokenizer.json"),
        "template": str(tokenizer.chat_template),
        "precision": str(spec.precision),
        # One precision has two: a frozen base is stored in it, weights in training are cast for each pass.
        "weights": str(policy.get_input_embeddings().weight.dtype),
        "libraries": f"torch {version('torch')}, transformers {version('transformers')}",
    }
    trained = run_dpo(
        context, group, policy, tokenizer, (train, selection), plan, warm_steps, fresh=fresh, names=names
    )
    log += trained.log
    folder = context.scratch / "candidate"
    save_policy(policy, tokenizer, folder, base=base, leads=group.leads)
    seconds = time.monotonic() - clock
    record = _record(context, plan, log, seconds, len(train), len(selection))
    # Both of this attempt alone: what those before it needed, nobody noted.
    share = (trained.steps - trained.resumed) / trained.steps
    record["pairsPerSecond"] = round(len(train) * plan.epochs * share / seconds, 3) if share else None
    record["checkpoint"] = trained.checkpoint
    record["reference"] = trained.reference
    record["peakMemoryBytes"] = group.largest(record["peakMemoryBytes"])
    output = group.from_leader(_store(context, folder, record) if group.leads else None)
    return StageResult(
        stage=request.stage,
        input_digest=request.input_digest,
        output=output,
        started_time=started,
        finished_time=datetime.now(UTC),
        training=TrainingSummary(
            steps=trained.steps,
            pairs=len(train),
            final_loss=next((entry["loss"] for entry in reversed(trained.log) if "loss" in entry), None),
            pairs_per_second=record["pairsPerSecond"],
            peak_memory_bytes=record["peakMemoryBytes"],
            engine=str(trained.engine),
            adapter=spec.lora is not None,
        ),
    )


def _store(context: StageContext, folder: Path, record: dict[str, Any]) -> ArtifactRef:
    """Store the candidate with its record."""
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    require_unchanged(context, StageName.PREPARE)
    target = context.request.folder
    return upload_folder(folder, f"{target}candidate/", context.store(target))


def _train_side(context: StageContext, group: Group) -> Split:
    """The train side only: the holdout's file is fetched with it, and never opened here."""
    snapshot = context.request.inputs[StageName.PREPARE]
    store, scratch = context.store(snapshot.uri), context.scratch / "snapshot"
    folder = group.once_per_node(lambda: fetch_folder(snapshot, store, scratch), Path)
    return Split(folder, Side.TRAIN)


def _warm_start(
    context: StageContext,
    group: Group,
    model: LocalModel,
    tokenizer: Any,
    train: Part,
    plan: Schedule,
    steps: int,
    base: dict[str, str] | None,
) -> tuple[Path, list[dict[str, Any]], str]:
    """The warm-started policy as a folder, its log and its digest. Kept in the artifacts until the result is stored: an interrupted DPO needs the same reference."""
    from alignment_trainer.training.loops import run_warm_start
    from alignment_trainer.training.policy import load_policy, save_policy

    request = context.request
    uri = uris.join(kept(request), "warm-start", "policy") + "/"
    store = context.store(uri)
    sums = group.from_leader(read_sums(store, uri) if group.leads else None)
    ref = ArtifactRef(uri=uri, digest=sums_digest(sums)) if sums else None
    if ref is None:
        policy = load_policy(model, request.spec.training, processes=group.size)
        log = run_warm_start(context, group, policy, tokenizer, train, plan, steps)
        folder = context.scratch / "warm-policy"
        save_policy(policy, tokenizer, folder, base=base, leads=group.leads)
        del policy
        _let_go()
        if group.leads:
            (folder / "log.json").write_text(json.dumps(log), encoding="utf-8")
            ref = upload_folder(folder, uri, store)
        ref = group.from_leader(ref)
    scratch = context.scratch / "warm"
    folder = group.once_per_node(lambda: fetch_folder(ref, store, scratch), Path)
    log = json.loads((folder / "log.json").read_text())
    return folder, [{**entry, "phase": "warmStart"} for entry in log], ref.digest


def _let_go() -> None:
    """Give back the memory of a model that is not needed any more, before the next one is loaded."""
    import torch

    gc.collect()  # TRL's and our forwards stand on the model that they belong to: a circle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _base_of(model: LocalModel, uri: str, digest: str) -> dict[str, str]:
    """What an adapter is published on: always the original base, also when an adapter was trained on."""
    if model.base_ref is not None and model.base_ref.digest is not None:
        return {"uri": model.base_ref.uri, "digest": model.base_ref.digest}
    return {"uri": uri, "digest": digest}


def _record(
    context: StageContext,
    plan: Schedule,
    log: list[dict[str, Any]],
    seconds: float,
    train: int,
    selection: int,
) -> dict[str, Any]:
    import torch

    peak = (
        torch.cuda.max_memory_allocated()
        if torch.cuda.is_available()
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    libraries = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "alignment-operator")
    return {
        "version": 1,
        "schedule": {name: getattr(plan, name) for name in plan.__dataclass_fields__},
        "seed": context.request.spec.training.seed,
        "trainPairs": train,
        "selectionPairs": selection,
        "seconds": round(seconds, 1),
        "peakMemoryBytes": peak,
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "cpu",
        "image": context.request.image,
        "libraries": {name: version(name) for name in libraries},
        "curve": log,
    }
