"""What the holdout can show, said by prepare before any GPU is used. The arithmetic is in ``planning``."""

from __future__ import annotations

from alignment_api.spec import AlignmentRunSpec
from alignment_api.status import Funnel
from alignment_trainer.data.split import Side
from alignment_trainer.data.tally import Tally
from alignment_trainer.planning import plan_run

__all__ = ["with_power"]

_WARNINGS = 16


def with_power(funnel: Funnel, tally: Tally, spec: AlignmentRunSpec) -> Funnel:
    """The funnel with the smallest effect that the gate's first criterion can show, and warnings where that is too large."""
    plans, found = plan_run(spec, tally.group_sizes(Side.HOLDOUT), tally.held_out_edits)
    warnings = (*found, *funnel.warnings)
    return funnel.model_copy(
        update={
            "smallest_effect": round(plans[0].change, 4) if plans else None,
            "warnings": tuple(sentence[:512] for sentence in warnings[:_WARNINGS]),
        }
    )
