"""Model folders for tests that look at names and bytes only; for models that compute, see the demo's base."""

from __future__ import annotations

import json
from pathlib import Path

from alignment_trainer.models.resolve import Resolver
from alignment_trainer.storage.registry import Stores


def full_weights(folder: Path, *, content: bytes = b"weights") -> str:
    """A folder that looks like full weights; returns its URI, which ends with ``/``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    return folder.as_uri() + "/"


def adapter(folder: Path, base_uri: str, *, content: bytes = b"adapter") -> str:
    """A folder that looks like a LoRA adapter on a base; returns its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = Resolver(Stores()).pin(base_uri).digest
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base_uri}))
    (folder / "adapter_model.safetensors").write_bytes(content)
    (folder / "base.json").write_text(json.dumps({"uri": base_uri, "digest": digest}))
    return folder.as_uri() + "/"
