"""What a model folder must hold, and which of its files count.

Full weights: ``config.json``, ``*.safetensors``, ``tokenizer.json``. Adapter: ``adapter_config.json``,
``adapter_model.safetensors``, ``base.json`` naming its base by URI and digest; its tokenizer may be the base's.
Pickles run code when they are read: they are never read here, and never copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pydantic import ValidationError

from alignment_api.base import Digest, ModelUri, StatusModel
from alignment_trainer.errors import RequestError
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import SUMS, list_folder
from alignment_trainer.storage.store import ObjectInfo, ObjectStore

__all__ = ["BASE", "BaseRef", "ModelFolder", "counts", "inspect_folder", "parse_base", "require_usable"]

BASE: Final = "base.json"
_INDEX: Final = "model.safetensors.index.json"
_ADAPTER: Final = "adapter_config.json"
_ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_FOREIGN: Final = frozenset({".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".tflite", ".mlmodel"})
"""Weights of other frameworks, which lie beside ours in many folders from the hub."""
_SUBFOLDERS: Final = frozenset({"additional_chat_templates"})


class BaseRef(StatusModel):
    """``base.json``: which model an adapter belongs to. digest: absent in a file that a person has not finished."""

    uri: ModelUri
    digest: Digest | None = None


@dataclass(frozen=True)
class ModelFolder:
    """A model folder's files that count, by name."""

    uri: str
    files: Mapping[str, ObjectInfo]

    @property
    def adapter(self) -> bool:
        """True for a LoRA adapter, which needs its base."""
        return _ADAPTER in self.files


def counts(name: str) -> bool:
    """True for a file that belongs to the model: not a pickle, not another framework's, not in a foreign subfolder."""
    path = PurePosixPath(name)
    if name == SUMS or path.name.startswith("."):
        return False
    if len(path.parts) > 1 and path.parts[0] not in _SUBFOLDERS:
        return False
    return path.suffix not in _PICKLES | _FOREIGN


def inspect_folder(uri: str, store: ObjectStore) -> ModelFolder:
    """Look at a model folder and refuse, with the remedy, what cannot be used. Reads no weights."""
    uri = uri.rstrip("/") + "/"
    found = list_folder(store, uri)
    folder = ModelFolder(uri, {name: info for name, info in found.items() if counts(name)})
    require_usable(uri, found, lambda name: store.get(uris.join(uri, name))[0])
    return folder


def require_usable(uri: str, names: Mapping[str, object], read: Callable[[str], bytes]) -> None:
    """Refuse a folder with these files. read: content of a small file of it."""
    if not names:
        raise RequestError(
            f"Model folder {uri} does not exist or is empty; check the URI (and its bucket, and its slashes).",
            reason="ModelMissing",
        )
    weights = [name for name in names if name.endswith(".safetensors") and counts(name)]
    pickles = sorted(
        name for name in names if PurePosixPath(name).suffix in _PICKLES and name != "training_args.bin"
    )
    if not weights and pickles:
        raise RequestError(
            f"Model folder {uri} has its weights only as pickles ({pickles[0]}), which run code when they are read; "
            "convert it once: model = AutoModelForCausalLM.from_pretrained(folder); model.save_pretrained(folder).",
            reason="PickleWeights",
        )
    if not weights:
        raise RequestError(
            f"Model folder {uri} has no *.safetensors; name the folder that holds them.",
            reason="ModelIncomplete",
        )
    if _ADAPTER in names:
        _require_adapter(uri, names)
        return
    if "config.json" not in names:
        raise RequestError(
            f"Model folder {uri} has no config.json; save the model with save_pretrained.",
            reason="ModelIncomplete",
        )
    _require_shards(uri, names, read)
    if "tokenizer.json" not in names:
        raise RequestError(
            f"Model folder {uri} has no tokenizer.json; write it once: "
            "AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder).",
            reason="TokenizerMissing",
        )


def parse_base(data: bytes, uri: str) -> BaseRef:
    """``base.json`` as read from ``uri``."""
    try:
        return BaseRef.model_validate_json(data)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the file"
        raise RequestError(
            f'{uri}: {field} is not as it must be; write {{"uri": "<URI of the base model>", "digest": "sha256:…"}}.',
            reason="BaseInvalid",
        ) from None


def _require_adapter(uri: str, names: Mapping[str, object]) -> None:
    if _ADAPTER_WEIGHTS not in names:
        raise RequestError(
            f"Adapter folder {uri} has no {_ADAPTER_WEIGHTS}; save it with save_pretrained.",
            reason="ModelIncomplete",
        )
    if BASE not in names:
        raise RequestError(
            f"Adapter folder {uri} has no {BASE}, so its base model is not known; "
            f'add it: {{"uri": "<URI of the base model>", "digest": "sha256:…"}}.',
            reason="BaseMissing",
        )


def _require_shards(uri: str, names: Mapping[str, object], read: Callable[[str], bytes]) -> None:
    if _INDEX not in names:
        return
    try:
        shards = set(json.loads(read(_INDEX))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        raise RequestError(
            f"{uri}{_INDEX} is not a safetensors index; save the model again.", reason="ModelIncomplete"
        ) from None
    missing = sorted(shards - set(names))
    if missing:
        raise RequestError(
            f"Model folder {uri} lacks {len(missing)} of its {len(shards)} weight files, first {missing[0]}; upload it again.",
            reason="ModelIncomplete",
        )
