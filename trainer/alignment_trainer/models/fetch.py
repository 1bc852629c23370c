"""From a pin to files on this machine: verified, read in place where they already are here.

Called by train, evaluate and publish, and by prepare for the tokenizer alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alignment_api.stage import ArtifactRef
from alignment_api.status import ModelPin
from alignment_trainer.errors import RequestError
from alignment_trainer.models import hub
from alignment_trainer.models.digests import model_sums
from alignment_trainer.models.folder import BASE, BaseRef, inspect_folder, parse_base
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import fetch_sums
from alignment_trainer.storage.store import ObjectStore

__all__ = ["LocalModel", "fetch_model", "read_model_file"]

StoreOf = Callable[[str], ObjectStore]


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine; to be read, never written.

    folder: full weights, or the adapter. base: folder of an adapter's base; None for full weights.
    base_ref: what the adapter's ``base.json`` says, to be kept with whatever is trained from it.
    """

    folder: Path
    base: Path | None = None
    base_ref: BaseRef | None = None

    @property
    def adapter(self) -> bool:
        """True when ``folder`` holds an adapter on ``base``."""
        return self.base is not None

    @property
    def tokenizer(self) -> Path:
        """Folder with ``tokenizer.json``: the model's own, or its base's."""
        own = (self.folder / "tokenizer.json").exists()
        return self.folder if own or self.base is None else self.base

    def read_file(self, name: str) -> bytes | None:
        """Content of one small file, of an adapter's base where the adapter has none; None without it."""
        for folder in (self.folder, self.base):
            if folder is not None and (folder / name).exists():
                return (folder / name).read_bytes()
        return None


def fetch_model(
    pin: ModelPin | ArtifactRef, stores: StoreOf, scratch: Path, *, cache: str | None = None
) -> LocalModel:
    """Bring a pinned model, and an adapter's base, to this machine.

    pin: of a model, or a candidate as train left it. cache: see ``resolve.digest_cache``. Raises RequestError
    ModelChanged when the folder is no longer what was pinned, TemporaryError ChecksumDiffers when a file is damaged.
    """
    folder = _fetch_one(pin.uri, pin.digest, stores, scratch, cache)
    base_file = folder / BASE
    if not base_file.exists():
        return LocalModel(folder)
    ref = parse_base(base_file.read_bytes(), uris.join(pin.uri, BASE))
    if ref.digest is None:
        raise RequestError(f"{pin.uri}{BASE} has no digest; add the base model's.", reason="BaseInvalid")
    return LocalModel(folder, _fetch_one(ref.uri, ref.digest, stores, scratch, cache), ref)


def _fetch_one(uri: str, digest: str, stores: StoreOf, scratch: Path, cache: str | None) -> Path:
    if uri.startswith(hub.SCHEME):
        return hub.fetch(uri, digest, scratch)
    store = stores(uri)
    folder = inspect_folder(uri, store)
    found = model_sums(folder, store, cache=cache, cache_store=stores(cache) if cache else None)
    if found.digest != digest:
        raise RequestError(
            f"Model folder {uri} has digest {found.digest}, pinned is {digest}: it was changed while the run worked. "
            "Start a new run, and keep models in folders that do not change.",
            reason="ModelChanged",
        )
    return fetch_sums(folder.uri, found.sums, store, scratch)


def read_model_file(pin: ModelPin, name: str, stores: StoreOf, scratch: Path) -> bytes | None:
    """One small file of a model (tokenizer, configuration), from an adapter's base where the adapter has none; None without it.

    Fetches nothing else: prepare needs the tokenizer, not the weights.
    """
    if pin.uri.startswith(hub.SCHEME):
        return hub.read_file(pin.uri, name, scratch)
    store = stores(pin.uri)
    uri = uris.join(pin.uri, name)
    if store.stat(uri) is not None:
        return store.get(uri, maximum_bytes=256 * 1024 * 1024)[0]
    base_uri = uris.join(pin.uri, BASE)
    if store.stat(base_uri) is None:
        return None
    base = parse_base(store.get(base_uri)[0], base_uri)
    digest = base.digest or pin.digest
    return read_model_file(ModelPin(uri=base.uri, digest=digest), name, stores, scratch)
