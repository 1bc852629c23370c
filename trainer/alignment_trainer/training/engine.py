"""Which forward runs under TRL's trainer, and why."""

from __future__ import annotations

import logging
from typing import Any

from alignment_api.spec import Engine
from alignment_trainer.training.prefix.architectures import refusal

__all__ = ["choose_engine"]

_log = logging.getLogger(__name__)


def choose_engine(wanted: Engine, policy: Any) -> Engine:
    """PrefixShared where it is wanted and exact, else TRL with one line in the log that says why.

    Also where it is asked for by name: what is learned is the same, and ``training.engine`` of the result says what ran.
    """
    if wanted is Engine.TRL:
        return Engine.TRL
    reason = refusal(policy)
    if reason is None:
        return Engine.PREFIX_SHARED
    level = logging.WARNING if wanted is Engine.PREFIX_SHARED else logging.INFO
    _log.log(level, "engine TRL: the prefix-shared forward is not used, because of %s", reason)
    return Engine.TRL
