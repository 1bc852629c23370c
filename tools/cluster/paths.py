"""Where the cluster tools keep things: a cache that outlives a cluster, and a state folder that does not."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["binaries", "cache", "state"]


def cache() -> Path:
    """What is costly to make and safe to delete: binaries, image layers. Created when missing."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "alignment-operator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def binaries() -> Path:
    """Programs built from their Go modules: ``<cache>/bin/<program>``. Created when missing."""
    folder = cache() / "bin"
    folder.mkdir(exist_ok=True)
    return folder


def state() -> Path:
    """What one running cluster consists of: keys, databases, logs, process numbers. Gone after cluster-down."""
    return cache() / "cluster"
