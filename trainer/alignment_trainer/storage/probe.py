"""Find out whether a store honours conditional puts, before anything relies on them.

Two runs that publish under one alias, or reserve from one ledger, are kept apart by conditional puts alone. A
store that ignores the condition answers "done" to both: it is refused for aliases and ledgers.
"""

from __future__ import annotations

import contextlib
import secrets

from alignment_trainer.errors import RequestError
from alignment_trainer.storage import uris
from alignment_trainer.storage.store import Absent, ConditionFailed, Matches, ObjectStore

__all__ = ["require_conditional_puts"]


def require_conditional_puts(store: ObjectStore, folder: str) -> None:
    """Prove it with two create-only puts, and one replacing put with a wrong version, on an object of our own.

    folder: where the alias or the ledger will live; the probe's object is removed again.
    Raises RequestError ConditionalPutsUnsupported when a put that must conflict is accepted.
    """
    uri = uris.join(folder, "probes", secrets.token_hex(8))
    first = store.put(uri, b"first", condition=Absent())
    try:
        honoured = _conflicts(store, uri, Absent()) and _conflicts(store, uri, Matches("0" * len(first.etag)))
    finally:
        store.delete(uri)
    if not honoured:
        raise RequestError(
            f"The store of {folder} does not honour conditional puts: two runs could both move an alias or spend one "
            "budget. Use a store that heeds If-None-Match and If-Match on PUT, as Amazon S3 and versitygw do, or file://.",
            reason="ConditionalPutsUnsupported",
        )


def _conflicts(store: ObjectStore, uri: str, condition: Absent | Matches) -> bool:
    with contextlib.suppress(ConditionFailed):
        store.put(uri, b"second", condition=condition)
        return False
    return True
