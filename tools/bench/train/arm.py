"""One arm: from rows of text to the trained policy. Not measured: imports, and loading the model."""

from __future__ import annotations

import copy
import functools
import gc
import json
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoTokenizer, PrinterCallback, set_seed
from transformers.models.llama.modeling_llama import LlamaAttention
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.batching import PairCollator
from alignment_trainer.training.prefix import products
from alignment_trainer.training.reference import reference_values, with_reference
from alignment_trainer.training.reference_cache import ReferenceCache
from alignment_trainer.training.tokens import tokenized
from alignment_trainer.training.trainer import PreferenceTrainer
from tools.bench.train.material import pairs_of, random_weights

__all__ = ["Arm", "Measured", "measure_to", "quiet"]

_LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
_BUDGET = 8192


@dataclass(frozen=True)
class Arm:
    """kind: default, tuned, online (TRL's), empty, full (ours, by state of the cache), plain (empty, on torch's products). folder: model, pairs.json, cache.

    device: cpu or cuda.
    """

    kind: str
    folder: str
    lora: bool
    low_precision: bool
    threads: int
    pairs_per_step: int
    profile: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Measured:
    """seconds: by the clock; cpu_seconds: of all threads, which other programs on the machine disturb less.

    tokens: that went through the first layer, padding, reference and recomputing included. bytes: resident, at most; on
    a GPU, allocated there.
    """

    seconds: float
    cpu_seconds: float
    pairs: int
    tokens: int
    bytes: int
    bytes_before: int
    losses: list[float]


def measure_to(arm: Arm, file: Path) -> None:
    """Measure, and write what was measured as JSON."""
    quiet()
    file.write_text(json.dumps(asdict(measure(arm))), encoding="utf-8")


def quiet() -> None:
    """Nothing but the table is printed."""
    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    os.environ["TQDM_DISABLE"] = "1"


def measure(arm: Arm) -> Measured:
    """Carry out one arm."""
    torch.set_num_threads(arm.threads)
    folder = Path(arm.folder)
    rows = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    # TRL's default keeps the base in float32 and casts it in every pass; the others store a frozen base as it is used.
    low_base = arm.low_precision and arm.lora and arm.kind != "default"
    before = _resident()
    model = random_weights(folder / "model", arm.device)
    if low_base:
        for weight in (
            model.parameters()
        ):  # and nothing else: positions' frequencies stay in float32, as they are loaded
            weight.data = weight.data.bfloat16()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    if arm.kind == "plain":
        products.available = functools.cache(lambda: False)  # this process is for this arm
    if arm.device == "cuda":
        # An expert's choice for TRL: cuDNN's attention prepares anew for each length of a padded batch.
        torch.backends.cuda.enable_cudnn_sdp(enabled=arm.kind == "default")
        _warm_up(arm, tokenizer, rows[: arm.pairs_per_step])
    tokens = _Tokens()
    with _profiled(arm):
        began, cpu = time.perf_counter(), time.process_time()
        losses = _trained(arm, model, tokenizer, rows)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if arm.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return Measured(seconds, cpu_seconds, len(rows), tokens.seen, peak, before, losses)


def _trained(arm: Arm, model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> list[float]:
    """Train; the loss of each step."""
    set_seed(0)
    trainer = (_ours if arm.kind in ("empty", "full", "plain") else _theirs)(arm, model, tokenizer, rows)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if arm.device == "cuda":
        torch.cuda.synchronize()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _warm_up(arm: Arm, tokenizer: Any, rows: list[dict[str, str]]) -> None:
    """One step of a small model of the same kind: libraries are loaded, kernels compiled; both once per process."""
    config = AutoConfig.from_pretrained(Path(arm.folder) / "model")
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = (
        64 * config.num_attention_heads,
        256,
        1,
    )
    with tempfile.TemporaryDirectory(prefix="bench-warm-up-") as name:
        (Path(name) / "model").mkdir()
        config.save_pretrained(Path(name) / "model")
        small = random_weights(Path(name) / "model", arm.device)
        kind = "empty" if arm.kind == "full" else arm.kind
        _trained(replace(arm, folder=name, kind=kind), small, tokenizer, rows)
    del small
    gc.collect()  # a trainer's forward stands on the model that it belongs to: a circle
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _arguments(arm: Arm, **changes: Any) -> Any:
    common: dict[str, Any] = {
        "output_dir": str(Path(arm.folder) / f"out-{arm.kind}"),
        "per_device_train_batch_size": arm.pairs_per_step,
        "num_train_epochs": 1,
        "bf16": arm.low_precision,
        "learning_rate": 1e-3 if arm.lora else 1e-5,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": arm.device == "cpu",
        "seed": 0,
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }
    return DPOConfig(**common | changes)


def _theirs(arm: Arm, model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> Any:
    tuned = {
        "gradient_checkpointing": False,
        "precompute_ref_log_probs": arm.kind == "tuned",
        "precompute_ref_batch_size": 4 * arm.pairs_per_step,
    }
    # TRL would load the reference from the model's folder, where none is: its weights are drawn, not stored.
    reference = copy.deepcopy(model) if arm.kind in ("default", "online") and not arm.lora else None
    return DPOTrainer(
        model=model,
        ref_model=reference,
        args=_arguments(arm, **({} if arm.kind == "default" else tuned)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(**_LORA) if arm.lora else None,
    )


def _ours(arm: Arm, model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> Any:
    """As ``loops.run_dpo`` puts it together, on TRL's arguments."""
    folder = Path(arm.folder)
    arguments = _arguments(arm, gradient_checkpointing=False, precompute_ref_log_probs=True)
    policy = get_peft_model(model, LoraConfig(**_LORA)) if arm.lora else model
    maximum = arguments.max_length
    root = (folder / ("cache-plain" if arm.kind == "plain" else "cache")).as_uri() + "/"
    cache = ReferenceCache(Stores()(root), root)

    def reference(trainer: Any, dataset: Any) -> Any:
        values, cached = reference_values(trainer, dataset, cache, maximum=maximum)
        if cached != (len(values) if arm.kind == "full" else 0):
            raise RuntimeError(f"the cache knew {cached} of {len(values)} pairs in arm {arm.kind}")
        return with_reference(dataset, values)

    trainer = PreferenceTrainer(
        model=policy,
        args=arguments,
        train_dataset=tokenized(
            pairs_of(rows), tokenizer, folder / f"tokens-{arm.kind}.arrow", maximum=maximum
        ),
        processing_class=tokenizer,
        collator=PairCollator(
            DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id, max_length=maximum),
            budget=_BUDGET,
            shared=True,
            maximum=maximum,
        ),
        reference=reference,
        fresh_adapter=arm.lora,
    )
    if trainer.seam is None:
        raise RuntimeError(f"arm {arm.kind} would run TRL's forward")
    return trainer


class _Tokens:
    """Counts what goes through the first layer of any Llama, TRL's second model included."""

    def __init__(self) -> None:
        self.seen = 0
        real = LlamaAttention.forward

        def counted(layer: Any, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            if layer.layer_idx == 0:
                self.seen += hidden_states.shape[0] * hidden_states.shape[1]
            return real(layer, hidden_states, *arguments, **named)

        LlamaAttention.forward = counted


@contextmanager
def _profiled(arm: Arm) -> Iterator[None]:
    """Print where the time goes, when wanted."""
    if not arm.profile:
        yield
        return
    activities = [torch.profiler.ProfilerActivity.CPU]
    if arm.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        yield
    print(profile.key_averages().table(sort_by=f"self_{arm.device}_time_total", row_limit=30))


def _resident() -> int:
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
