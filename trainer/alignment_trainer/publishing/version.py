"""Writes one version's folder: complete, or without ``SHA256SUMS``; and once complete, never touched again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from alignment_api.names import StageName
from alignment_trainer.errors import RequestError
from alignment_trainer.models.folder import counts, inspect_folder
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.inputs import pinned_sums
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import (
    SUMS,
    copy_object,
    list_folder,
    read_sums,
    sums_digest,
    sums_text,
)
from alignment_trainer.storage.refusals import checksum_differs

__all__ = ["write_version"]


def write_version(context: StageContext, folder: str, documents: Mapping[str, bytes]) -> str:
    """Copy the candidate's model files and add ``documents``, which win where names meet; returns the digest.

    Raises RequestError VersionExists when a complete version of this name holds another model.
    """
    candidate = context.request.inputs[StageName.TRAIN]
    sums_of_all = pinned_sums(context, StageName.TRAIN)
    wanted = {name: sha256 for name, sha256 in sums_of_all.items() if counts(name)}
    store = context.store(folder)
    complete = read_sums(store, folder)
    if complete is not None:
        _require_same(folder, complete, wanted, documents)
        return sums_digest(complete)
    copies = {name: sha256 for name, sha256 in wanted.items() if name not in documents}
    present = list_folder(store, folder)
    steps = len(copies) + len(documents)
    sums: dict[str, str] = {}
    for number, (name, sha256) in enumerate(sorted(copies.items())):
        context.raise_if_stopped()
        context.progress.update(number, steps, activity=f"copying {name}")
        source, target = uris.join(candidate.uri, name), uris.join(folder, name)
        found = store.stat(target) if name in present else None
        if found is None or found.sha256 != sha256:
            copied = copy_object(source, context.store(source), target, store, context.scratch)
            if copied != sha256:
                raise checksum_differs(source, found=copied, expected=sha256)
        sums[name] = sha256
    for name, data in documents.items():
        store.put(uris.join(folder, name), data)
        sums[name] = hashlib.sha256(data).hexdigest()
    for name in present.keys() - sums.keys():
        store.delete(uris.join(folder, name))
    inspect_folder(folder, store)
    store.put(uris.join(folder, SUMS), sums_text(sums))
    context.progress.update(steps, steps, activity="published")
    return sums_digest(sums)


def _require_same(
    folder: str, complete: Mapping[str, str], wanted: Mapping[str, str], documents: Mapping[str, bytes]
) -> None:
    """A complete version stays as it is. Documents may differ in wording between versions of this program."""
    for name, sha256 in wanted.items():
        if name not in documents and complete.get(name) != sha256:
            raise RequestError(
                f"{folder} is a complete version with another {name}; versions never change. Clone the run under another name.",
                reason="VersionExists",
            )
