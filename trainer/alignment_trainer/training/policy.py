"""The policy: loading the model in its precision, putting the adapter on it, saving it as safetensors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from alignment_api.spec import LoraSpec, Precision, TrainingSpec
from alignment_trainer.errors import RequestError
from alignment_trainer.models.fetch import LocalModel
from alignment_trainer.training.aside import save_whole, set_aside

__all__ = ["ADAPTER", "load_policy", "load_tokenizer", "save_policy"]

ADAPTER = "default"
"""Name of the adapter in training; TRL keeps the frozen copy that is the reference under the name ``ref``."""

_log = logging.getLogger(__name__)
_MADE_AS: Final = "made_as"
"""Attribute of a policy: entries of its adapter's configuration that are others while it is trained."""


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
    together; full weights are spread over them (FSDP), each loads its part only. The only dropout in it is the adapter's,
    ``lora.dropout``. Raises RequestError for an adapter that does not fit, or that cannot be trained as it stands.
    """
    import torch
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
        sharded.prepare(base)
    set_aside(base)
    if lora is None:
        return base
    adapter = warm or (model.folder if model.adapter else None)
    if adapter is not None:
        policy = _with_adapter(base, adapter, lora, asked=warm is None)
    else:
        policy = _with_fresh_adapter(base, lora, spec.seed)
    _refuse_head(policy, lora, fresh=not model.adapter)
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
        save_whole(policy, folder, leads=leads)
    if not leads:
        return
    if base is not None:
        policy.save_pretrained(folder, selected_adapters=[ADAPTER])
        (folder / "base.json").write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base["uri"]
        config |= getattr(policy, _MADE_AS, {})
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    tokenizer.save_pretrained(folder)


def _with_adapter(base: Any, folder: Path, lora: LoraSpec, *, asked: bool) -> Any:
    """The base with a trained adapter on it, to be trained on. asked: the person named the adapter, so hears what stays its own."""
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(folder)
    if asked:
        _say_what_stays(config, lora)
    made = getattr(config, "init_lora_weights", True)
    if str(made).startswith("pissa_niter_"):
        raise RequestError(
            f"The adapter in spec.model was made with init_lora_weights {made}, which takes random numbers: what it was "
            "trained on cannot be restored. Convert it to plain LoRA (PEFT: path_initial_model_for_weight_conversion)."
        )
    if getattr(config, "bias", "none") != "none":
        raise RequestError(
            f"The adapter in spec.model trains biases too (bias: {config.bias}), of which there can be no second copy as "
            "the reference. Merge it into its base and name that as spec.model."
        )
    if hasattr(config, "lora_dropout"):
        config.lora_dropout = lora.dropout
    try:
        policy = PeftModel.from_pretrained(
            base, folder, adapter_name=ADAPTER, is_trainable=True, config=config
        )
    except ValueError as error:
        raise RequestError(f"The adapter in spec.model cannot be trained on: {error}") from None
    if isinstance(made, str):
        # PiSSA and OLoRA take their share out of the base's weights when an adapter is made, which was done just now. The
        # copy that TRL makes would take it once more, under the policy.
        config.init_lora_weights = True
        setattr(policy, _MADE_AS, {"init_lora_weights": made})
    return policy


def _say_what_stays(config: Any, lora: LoraSpec) -> None:
    rank, alpha = getattr(config, "r", None), getattr(config, "lora_alpha", None)
    if (rank, alpha) != (lora.rank, lora.alpha) or lora.target_modules != "all-linear":
        _log.warning(
            "spec.model is an adapter and is trained on with its own rank %s, alpha %s and modules: rank %d, alpha %d and "
            "targetModules %s of spec.training.lora are not used, only its dropout is",
            *(rank, alpha, lora.rank, lora.alpha, lora.target_modules),
        )


def _refuse_head(policy: Any, lora: LoraSpec, *, fresh: bool) -> None:
    """TRL's losses multiply by the head's weight, past an adapter on it, which would stay as it is."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(policy.get_output_embeddings(), BaseTunerLayer):
        raise RequestError(
            f"spec.training.lora.targetModules {lora.target_modules!r} names the language-model head, on which an adapter "
            "would never be trained; leave it out."
            if fresh
            else "The adapter in spec.model is on the language-model head too, where it would never be trained; merge it "
            "into its base and name that as spec.model."
        )


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
