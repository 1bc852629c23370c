"""A policy whose weights are spread over the processes (FSDP): loaded in parts, checkpointed whole.

transformers loads and saves such a model itself, but its trainer would store the leading process's part of the
optimizer alone. Here state is gathered to the leading process, which writes it, and dealt out again from there; so the
next attempt may have another number of processes. All processes call each function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

__all__ = ["config_for", "load_optimizer", "load_weights", "prepare", "save_optimizer", "settle"]

_GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)
_DEALT = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)


def config_for(processes: int) -> Any:
    """``from_pretrained``'s ``distributed_config`` for weights spread over so many processes; each reads its part only."""
    from transformers.distributed import DistributedConfig

    return DistributedConfig(fsdp_size=processes)


def prepare(model: Any) -> None:
    """Make a model that was just loaded fit to be trained. Called before its first pass."""
    _share_tied(model)
    _run_the_head(model)


def _share_tied(model: Any) -> None:
    """Make one parameter of what the model ties (mostly the head to the embeddings), for FSDP too.

    transformers ties after it has spread the weights, so FSDP keeps a part for each of the two. It would put its own back
    into the head at the first pass: weights that no optimizer knows and no gradient reaches. FSDP's way to say that a
    parameter stands in several modules is made use of; it has no public door for it.
    """
    held: dict[tuple[Any, str], tuple[list[Any], Any, Any]] = {}
    for module in model.modules():
        if isinstance(module, FSDPModule):
            groups = module._get_fsdp_state()._fsdp_param_groups
            for group in groups:
                for parameter in group.fsdp_params:
                    info = parameter._module_info
                    places = zip(
                        (info.module, *info.shared_modules),
                        (info.param_name, *info.shared_param_names),
                        strict=True,
                    )
                    held |= dict.fromkeys(places, (groups, group, parameter))
    ties = dict(model.all_tied_weights_keys)
    for copy, origin in ties.items():
        place, source = (_place(model, name) for name in (copy, origin))
        (groups, group, surplus), kept = held[place], held[source][2]
        if surplus is kept:
            continue
        surplus._post_load_hook_handle.remove()  # whenever weights are loaded it would take them for its own
        group.fsdp_params.remove(surplus)
        if not group.fsdp_params:
            groups.remove(group)
        kept._module_info.shared_modules.append(place[0])
        kept._module_info.shared_param_names.append(place[1])
        held[place] = held[source]

    def once(_module: Any, state: dict[str, Any], _prefix: str, _metadata: Any) -> None:
        """Gathered, the two would be two tensors, and a file would have both."""
        for copy in ties:
            state.pop(copy, None)

    model.register_state_dict_post_hook(once)


def _place(model: Any, name: str) -> tuple[Any, str]:
    module, _, parameter = name.rpartition(".")
    return model.get_submodule(module), parameter


def _run_the_head(model: Any) -> None:
    """Let the language-model head run in each pass, on nothing.

    transformers spreads head and last norm as one unit, which FSDP gathers before the first of the two runs and counts
    as done after both have. TRL's forward and ours take the head's weight without running it: from the second pass on
    the unit would not be gathered again, and training would go on with the weights of the first.
    """
    head = model.get_output_embeddings()

    def run(_module: Any, _arguments: Any, output: Any) -> None:
        head(output.last_hidden_state[:, :0])

    model.base_model.register_forward_hook(run)


def settle(model: Any) -> None:
    """After passes without a backward pass, which would do it: let go of what was gathered.

    Else parameters are the gathered ones, which an optimizer that is made or stored now must not see.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def save_optimizer(model: Any, optimizer: Any, file: Path, *, leads: bool) -> None:
    """Write the optimizer's whole state. leads: this is the process that writes."""
    settle(model)
    state = get_optimizer_state_dict(model, optimizer, options=_GATHERED)
    if leads:
        torch.save(state, file)


def load_optimizer(model: Any, optimizer: Any, file: Path, *, leads: bool) -> None:
    """Restore what :func:`save_optimizer` wrote. leads: this is the process that reads."""
    state = torch.load(file, map_location="cpu", weights_only=True) if leads else {}
    set_optimizer_state_dict(model, optimizer, state, options=_DEALT)


def load_weights(model: Any, folder: Path, *, leads: bool) -> None:
    """Put the weights of a folder's safetensors into the model. leads: this is the process that reads."""
    from safetensors.torch import load_file

    state: dict[str, Any] = {}
    if leads:
        for file in sorted(folder.glob("*.safetensors")):
            state |= load_file(file)
    settle(model)
    set_model_state_dict(model, state, options=_DEALT)
    model.tie_weights()
