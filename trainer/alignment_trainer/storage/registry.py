"""Which store serves a URI. Another store is one file and one entry here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alignment_api.spec import StorageSpec
from alignment_trainer.errors import RequestError
from alignment_trainer.storage import uris
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.store import ObjectStore

__all__ = ["SCHEMES", "VOLUMES_VARIABLE", "Stores", "open_store"]

VOLUMES_VARIABLE: Final = "ALIGNMENT_PVC_ROOT"
"""Environment variable: folder below which PersistentVolumeClaims are mounted, each under its name."""


def _file(_: StorageSpec) -> ObjectStore:
    return LocalStore()


def _claim(_: StorageSpec) -> ObjectStore:
    return LocalStore(volumes=Path(os.environ.get(VOLUMES_VARIABLE, "/mnt/claims")))


def _s3(spec: StorageSpec) -> ObjectStore:
    from alignment_trainer.storage.s3 import S3Store  # boto3 takes a while to import

    return S3Store(spec)


SCHEMES: Final[dict[str, Callable[[StorageSpec], ObjectStore]]] = {"file": _file, "pvc": _claim, "s3": _s3}


def open_store(uri: str, storage: StorageSpec | None = None) -> ObjectStore:
    """The store for a URI. Opens no connection. Raises RequestError for a scheme that nobody serves.

    storage: endpoint, region and encryption of ``s3://``; omitted: boto3's own chain.
    """
    scheme = uris.parse(uri).scheme
    if scheme not in SCHEMES:
        hint = "; hf:// names models only, and is read only" if scheme == "hf" else ""
        raise RequestError(
            f"{uri}: objects are kept under {', '.join(f'{name}://' for name in SCHEMES)}, not {scheme}://{hint}.",
            reason="UriInvalid",
        )
    return SCHEMES[scheme](storage or StorageSpec())


class Stores:
    """The stores of one run: called with a URI, gives the store, opened once per scheme. Thread-safe."""

    def __init__(self, storage: StorageSpec | None = None) -> None:
        self._storage = storage or StorageSpec()
        self._open: dict[str, ObjectStore] = {}
        self._lock = threading.Lock()

    def __call__(self, uri: str) -> ObjectStore:
        """The store for a URI; the same object for URIs of one scheme."""
        scheme = uris.parse(uri).scheme
        with self._lock:
            if scheme not in self._open:
                self._open[scheme] = open_store(uri, self._storage)
            return self._open[scheme]
