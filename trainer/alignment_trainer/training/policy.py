"""The policy: loading the model in its precision, putting the adapter on it, saving it as safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alignment_api.spec import LoraSpec, Precision, TrainingSpec
from alignment_trainer.errors import RequestError
from alignment_trainer.models.fetch import LocalModel

__all__ = ["ADAPTER", "load_policy", "load_tokenizer", "save_policy"]

ADAPTER = "default"
"""Name of the adapter in training; TRL keeps the frozen copy that is the reference under the name ``ref``."""


def load_tokenizer(model: LocalModel) -> Any:
    """The model's tokenizer, with a padding token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.tokenizer, trust_remote_code=False)
    if tokenizer.eos_token is None:
        raise RequestError(
            f"The tokenizer in {model.tokenizer} has no end-of-sequence token; set eos_token.",
            reason="TokenizerInvalid",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(
    model: LocalModel, spec: TrainingSpec, *, warm: Path | None = None, processes: int = 1
) -> Any:
    """The model to train: full weights, a fresh adapter, or the adapter that is trained on.

    warm: folder of a finished warm start (adapter or full weights), to start from instead. processes: how many train
    together; full weights are spread over them (FSDP), each loads its part only.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from alignment_trainer.training import sharded

    lora = spec.lora
    if lora is None and model.adapter:
        raise RequestError(
            "spec.model is an adapter, so spec.training.lora must be set; or name a model with full weights."
        )
    # A frozen base may be stored in bfloat16; weights in training are kept in float32 and cast in the forward pass.
    low = lora is not None and spec.precision is Precision.BFLOAT16
    base_folder = model.base or model.folder
    source = warm if warm is not None and lora is None else base_folder
    spread = lora is None and processes > 1
    base = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=torch.bfloat16 if low else torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
        **({"distributed_config": sharded.config_for(processes)} if spread else {}),
    )
    if spread:
        sharded.run_the_head(base)
    if lora is None:
        return base
    adapter = warm or (model.folder if model.adapter else None)
    if adapter is not None:
        policy = PeftModel.from_pretrained(base, adapter, adapter_name=ADAPTER, is_trainable=True)
    else:
        policy = _with_fresh_adapter(base, lora, spec.seed)
    policy.create_or_update_model_card = _no_card
    return policy


def _no_card(_folder: str) -> None:
    """Replaces PEFT's card, which nobody reads and which takes longer than a small adapter's weights; publish writes ours."""


def save_policy(
    policy: Any, tokenizer: Any, folder: Path, *, base: dict[str, str] | None, leads: bool = True
) -> None:
    """Write a candidate. base: ``{uri, digest}`` of an adapter's base; None for full weights.

    Called by every process: weights that are spread over them are gathered. leads: this is the one that writes.
    """
    if base is None:
        policy.save_pretrained(folder, is_main_process=leads)
    if not leads:
        return
    if base is not None:
        policy.save_pretrained(folder, selected_adapters=[ADAPTER])
        (folder / "base.json").write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base["uri"]
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    tokenizer.save_pretrained(folder)


def _with_fresh_adapter(base: Any, lora: LoraSpec, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    modules = lora.target_modules
    targets: str | list[str] = (
        modules if modules == "all-linear" else [name.strip() for name in modules.split(",")]
    )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(base, config, adapter_name=ADAPTER)
    except ValueError as error:
        raise RequestError(
            f"spec.training.lora.targetModules {modules!r} does not fit the model: {error}"
        ) from None
