"""Judges of generated texts: none, a reward model, or an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from typing import Final

from alignment_api.spec import JudgeType
from alignment_trainer.evaluation.judges.base import Judge
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris

__all__ = ["TOKEN_VARIABLE", "open_judge"]

TOKEN_VARIABLE: Final = "ALIGNMENT_JUDGE_TOKEN"  # noqa: S105  the name of a variable
"""Environment variable with the API key of an OpenAI-compatible judge; from ``evaluation.judge.secretRef`` in a pod."""


def open_judge(context: StageContext) -> Judge | None:
    """The judge that the spec names, or None. Opens no connection; fetches a reward model."""
    spec = context.request.spec
    judge = spec.evaluation.judge
    if judge.type is JudgeType.OPENAI_COMPATIBLE:
        from alignment_trainer.evaluation.judges.http import Caps, ChatClient
        from alignment_trainer.evaluation.judges.openai import OpenAIJudge

        assert judge.url is not None  # noqa: S101  the contract's rule for this type
        assert judge.model is not None  # noqa: S101
        client = ChatClient(
            url=judge.url,
            model=judge.model,
            token=os.environ.get(TOKEN_VARIABLE),
            caps=Caps(judge.maximum_requests, judge.maximum_tokens),
        )
        cache = uris.join(spec.artifacts.uri, "cache", "judge")
        return OpenAIJudge(client, cache, context.store(cache))
    if judge.type is JudgeType.REWARD_MODEL:
        from alignment_trainer.evaluation.judges.reward_model import RewardModelJudge
        from alignment_trainer.models.fetch import fetch_model
        from alignment_trainer.models.resolve import digest_cache

        pins = context.request.pins
        assert pins is not None  # noqa: S101  the contract: only prepare has none
        assert pins.judge is not None  # noqa: S101  prepare pins a judge of this type
        pin = pins.judge
        local = fetch_model(pin, context.store, context.scratch / "models", cache=digest_cache(spec))
        return RewardModelJudge(
            local.folder,
            uri=pin.uri,
            digest=pin.digest,
            precision=spec.training.precision,
            maximum=spec.training.max_length + spec.evaluation.generation.max_new_tokens,
        )
    return None
