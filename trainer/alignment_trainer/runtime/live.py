"""Values that a running stage tells live, in one table: the trainer's name for each, and a sentence.

The reporter passes on these and no others, the server names its series after them, the documentation lists them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LIVE", "STAGE_SERIES", "series_name"]

_NOT_A_NAME: Final = re.compile(r"[^a-z0-9_]+")

LIVE: Final[dict[str, str]] = {
    "loss": "Training loss of the latest logged step, in nats per pair; ln 2 = 0.693 at the first one of the sigmoid loss.",
    "rewards/margins": "Mean reward of the chosen side minus that of the rejected side, in nats times beta.",
    "rewards/accuracies": "Share of training pairs of the latest step whose margin is above 0; says nothing about held-out pairs.",
    "grad_norm": "Norm of the gradient before clipping.",
}
"""By the name in the trainer's logs."""


def series_name(name: str) -> str:
    """The Prometheus name of a live value: ``rewards/margins`` is ``alignment_stage_rewards_margins``."""
    return f"alignment_stage_{_NOT_A_NAME.sub('_', name.lower()).strip('_')}"


STAGE_SERIES: Final[dict[str, str]] = {
    "alignment_stage_step": "Steps done by the running stage.",
    "alignment_stage_steps": "Steps of the running stage in all.",
    **{series_name(name): sentence for name, sentence in LIVE.items()},
}
"""Every series of a running stage, with its sentence."""
