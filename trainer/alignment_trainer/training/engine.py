"""Which forward runs under TRL's trainer, and why."""

from __future__ import annotations

import logging
from typing import Any

from alignment_api.spec import Engine
from alignment_trainer.errors import RequestError
from alignment_trainer.training.prefix.architectures import refusal

__all__ = ["choose_engine"]

_log = logging.getLogger(__name__)


def choose_engine(wanted: Engine, policy: Any) -> Engine:
    """PrefixShared where it is wanted and exact, else TRL with one line in the log that says why.

    Raises RequestError when PrefixShared is asked for by name and is not exact for this model.
    """
    if wanted is Engine.TRL:
        return Engine.TRL
    reason = refusal(policy)
    if reason is None:
        return Engine.PREFIX_SHARED
    if wanted is Engine.PREFIX_SHARED:
        raise RequestError(
            f"spec.training.engine is PrefixShared, which is not exact for this model: {reason}. Set it to Auto or TRL.",
            reason="EngineUnsupported",
        )
    _log.info("engine TRL: the prefix-shared forward is not used, because of %s", reason)
    return Engine.TRL
