"""Gathers the material: scores the holdout under both models, generates answers, scores anchors.

One model is in memory at a time where that is possible: everything the champion says is computed first, except
its view of the candidate's texts.
"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from alignment_api.names import StageName
from alignment_trainer.data.files import read_rows
from alignment_trainer.data.rows import Pair, RowError, plain
from alignment_trainer.errors import DataError
from alignment_trainer.evaluation.generation import Answer, generate
from alignment_trainer.evaluation.material import AnchorLosses, Generation, Logps, Material
from alignment_trainer.evaluation.metrics.edit_burden import edit_distances
from alignment_trainer.evaluation.models import load_frozen
from alignment_trainer.evaluation.scoring import encode, encode_prompt, score
from alignment_trainer.models.fetch import fetch_model
from alignment_trainer.models.resolve import digest_cache
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.training.policy import load_tokenizer

__all__ = ["dump_generations", "gather"]

_ANCHOR_ROWS = 2000


class _Gatherer:
    def __init__(self, context: StageContext, pairs: list[Pair]) -> None:
        self.context = context
        self.spec = context.request.spec
        self.pairs = pairs
        self.done = 0
        self.maximum = self.spec.training.max_length
        generation = self.spec.evaluation.generation
        count = min(generation.prompts, len(pairs))
        # Which prompts are answered depends on the pairs alone, so that a retry answers the same ones.
        self.prompted = sorted(random.Random("prompts").sample(range(len(pairs)), count))
        self.steps = 6 * len(pairs) + 4 * count

    def tick(self, activity: str, done: int) -> None:
        self.context.raise_if_stopped()
        self.context.progress.update(min(self.done + done, self.steps), self.steps, activity=activity)

    def load(self, pin: Any) -> tuple[Any, Any]:
        cache = digest_cache(self.spec)
        local = fetch_model(pin, self.context.store, self.context.scratch / "models", cache=cache)
        return load_frozen(local, self.spec.training.precision), load_tokenizer(local)

    def logps(self, model: Any, tokenizer: Any, who: str) -> tuple[Logps, np.ndarray]:
        sides = []
        tokens = np.zeros(0, dtype=np.int64)
        for side in ("rejected", "chosen"):
            sequences = [
                encode(tokenizer, pair.prompt, getattr(pair, side), self.maximum) for pair in self.pairs
            ]
            scored = score(
                model, sequences, tokenizer.pad_token_id, lambda n: self.tick(f"scoring, {who}", n)
            )
            self.done += len(self.pairs)
            sides.append(scored.logps)
            tokens = scored.tokens
        return Logps(chosen=sides[1], rejected=sides[0]), tokens

    def answers(self, model: Any, tokenizer: Any, temperature: float, who: str) -> list[Answer]:
        prompts = [self.pairs[index].prompt for index in self.prompted]
        found = generate(
            model,
            tokenizer,
            prompts,
            temperature=temperature,
            maximum=self.spec.evaluation.generation.max_new_tokens,
            seed=self.spec.training.seed,
            between=lambda n: self.tick(f"generating, {who}", n),
        )
        self.done += len(prompts)
        return found

    def rescore(self, model: Any, tokenizer: Any, answers: list[Answer]) -> np.ndarray:
        sequences = []
        for index, answer in zip(self.prompted, answers, strict=True):
            prompt = encode_prompt(tokenizer, self.pairs[index].prompt)
            sequences.append((prompt + list(answer.ids), len(prompt)))
        return score(
            model, sequences, tokenizer.pad_token_id, lambda _: self.context.raise_if_stopped()
        ).logps

    def anchors(self, model: Any, tokenizer: Any) -> dict[str, np.ndarray]:
        out = {}
        for anchor in self.spec.evaluation.anchors:
            texts = [
                self._anchor_text(place, row)
                for place, row in read_rows(anchor.uri, self.context.store(anchor.uri))
            ]
            if not texts:
                raise DataError(
                    f"Anchor set {anchor.name} ({anchor.uri}) has no rows; give it some text.",
                    reason="AnchorEmpty",
                )
            sequences = [(tokenizer(text)["input_ids"][: self.maximum], 1) for text in texts[:_ANCHOR_ROWS]]
            scored = score(
                model, sequences, tokenizer.pad_token_id, lambda _: self.context.raise_if_stopped()
            )
            out[anchor.name] = -scored.logps / np.maximum(scored.tokens, 1)
        return out

    @staticmethod
    def _anchor_text(place: object, row: object | RowError) -> str:
        if isinstance(row, dict) and isinstance(row.get("text"), str) and row["text"].strip():
            return str(row["text"])
        raise DataError(f"{place}: an anchor needs a text; mend the line.", reason="AnchorInvalid")


def gather(context: StageContext, pairs: list[Pair]) -> Material:
    """Everything the metrics need, for the holdout ``pairs``."""
    request = context.request
    assert request.pins is not None  # noqa: S101  the contract: only prepare has none
    work = _Gatherer(context, pairs)
    temperature = request.spec.evaluation.generation.temperature
    champion, champion_tokenizer = work.load(request.pins.champion)
    champion_logps, tokens = work.logps(champion, champion_tokenizer, "champion")
    # The champion stands at the temperature that serves it best: a candidate must not win by being less random.
    tried = {
        t: work.answers(champion, champion_tokenizer, t, "champion")
        for t in sorted({temperature, temperature / 2})
    }
    candidate, tokenizer = work.load(request.inputs[StageName.TRAIN])
    candidate_logps, _ = work.logps(candidate, tokenizer, "candidate")
    answers = work.answers(candidate, tokenizer, temperature, "candidate")
    best = _best_temperature(work, tried)
    anchors = work.anchors(champion, champion_tokenizer), work.anchors(candidate, tokenizer)
    own = work.rescore(candidate, tokenizer, answers)
    foreign = work.rescore(champion, champion_tokenizer, answers)
    champion_own = work.rescore(champion, champion_tokenizer, tried[best])
    return Material(
        pairs=pairs,
        candidate_logps=candidate_logps,
        champion_logps=champion_logps,
        chosen_tokens=tokens,
        prompted=work.prompted,
        candidate=_generations(answers, own, foreign),
        champion=_generations(tried[best], champion_own, champion_own),
        champion_temperature=best,
        anchors={name: AnchorLosses(anchors[1][name], anchors[0][name]) for name in anchors[0]},
    )


def _generations(answers: list[Answer], own: np.ndarray, champion: np.ndarray) -> list[Generation]:
    return [
        Generation(a.text, len(a.ids), a.finished, float(o), float(c))
        for a, o, c in zip(answers, own, champion, strict=True)
    ]


def _best_temperature(work: _Gatherer, tried: dict[float, list[Answer]]) -> float:
    finals = [plain(work.pairs[index].chosen) for index in work.prompted]

    def burden(temperature: float) -> float:
        generations = [Generation(a.text, len(a.ids), a.finished, 0.0, 0.0) for a in tried[temperature]]
        return float(edit_distances(generations, finals).mean())

    return min(tried, key=burden)


def dump_generations(material: Material) -> str:
    """One JSON line per answered prompt: pair, final text, both answers."""
    lines = []
    for index, ours, theirs in zip(material.prompted, material.candidate, material.champion, strict=True):
        pair = material.pairs[index]
        lines.append(
            json.dumps(
                {
                    "pairId": pair.pair_id,
                    "prompt": pair.prompt,
                    "final": plain(pair.chosen),
                    "candidate": ours.text,
                    "champion": theirs.text,
                },
                ensure_ascii=False,
            )
        )
    return "\n".join(lines) + "\n"
