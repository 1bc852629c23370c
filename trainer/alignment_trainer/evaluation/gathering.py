"""Gathers the material: what champion and candidate make of the holdout, what they write, what they think of it.

Everything about the champion that does not depend on the candidate comes first (:class:`ChampionView`), so that it can
be kept for several candidates. A model is a :class:`Seat`; where it comes from is the caller's business.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignment_api.spec import Engine, EvaluationSpec
from alignment_trainer.data.rows import Kind, Pair, Text, plain
from alignment_trainer.evaluation.divergence import compare
from alignment_trainer.evaluation.generation import Answer, generate
from alignment_trainer.evaluation.material import (
    AnchorLosses,
    Drift,
    Generation,
    Logps,
    Material,
    Placebos,
    RefusalAnswers,
)
from alignment_trainer.evaluation.metrics.edit_burden import edit_distances
from alignment_trainer.evaluation.placebo import CANDIDATES, Pool, match, placebo_edits
from alignment_trainer.evaluation.prompts import PLACEBO_PAIRS, draw_prompts
from alignment_trainer.evaluation.scoring import encode, encode_prompt, score, score_sides
from alignment_trainer.evaluation.sets import Sets
from alignment_trainer.evaluation.words import known_words

__all__ = ["ChampionView", "Gatherer", "Seat", "dump_generations"]

_PAIRS_AT_ONCE: Final = 1024
"""Pairs that are encoded and sorted by length together."""
_TEMPERATURES: Final = (1.0, 4 / 3, 0.75, 0.5)
"""Tried for the champion, relative to the setting: no candidate needs fewer edits merely by being more or less random than it."""


@dataclass(frozen=True)
class Seat:
    """A frozen model and its tokenizer."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class ChampionView:
    """What the champion alone says.

    answers: at the candidate's temperature; best: at ``temperature``, where they need the fewest edits. placebo_texts,
    placebo_logps: of the pairs ``placebo_indices``, matched.
    """

    logps: Logps
    tokens: NDArray[np.int64]
    answers: list[Answer]
    best: list[str]
    temperature: float
    temperatures: dict[float, float]
    placebo_indices: list[int]
    placebo_texts: list[Text]
    placebo_logps: NDArray[np.float64]
    placebo_gap: float
    placebo_unmatched: int
    anchors: dict[str, NDArray[np.float64]]
    refusals: dict[str, list[str]]


class Gatherer:
    """Gathers for one holdout.

    maximum: tokens of prompt and answer. engine: the forward that both sides of a pair go through, as training names it.
    words: known from the data. tick: called with an activity and how much is done of how much; may raise to stop.
    """

    def __init__(
        self,
        pairs: list[Pair],
        spec: EvaluationSpec,
        *,
        maximum: int,
        seed: int,
        engine: Engine = Engine.AUTO,
        words: frozenset[str] = frozenset(),
        sets: Sets | None = None,
        tick: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._pairs = pairs
        self._temperature = round(spec.generation.temperature, 4)
        self._longest_answer = spec.generation.max_new_tokens
        self._maximum = maximum
        self._seed = seed
        self._engine = engine
        self._words = words
        self._sets = sets or Sets()
        self._prompted = draw_prompts(spec, [pair.kind is Kind.EDIT for pair in pairs])
        count = len(self._prompted)
        self._tick = tick
        self._done = 0
        tried = len(self._tried())
        others = sum(map(len, self._sets.refusals.values())) + sum(map(len, self._sets.anchors.values()))
        self._edited = [i for i, p in enumerate(pairs) if p.kind is Kind.EDIT and _single(p.rejected)]
        controlled = min(len(self._edited), PLACEBO_PAIRS)
        # Twice each side of each pair, all answers and the candidate's once more, what is offered as placebo and taken.
        self._steps = 4 * len(pairs) + (tried + 2) * count + (CANDIDATES + 1) * controlled + 2 * others

    @property
    def prompted(self) -> list[int]:
        """Indices of the pairs whose prompts are answered."""
        return self._prompted

    def champion(self, seat: Seat) -> ChampionView:
        """Everything that does not depend on the candidate."""
        logps, tokens = self._logps(seat, "champion")
        prompts = [self._pairs[index].prompt for index in self._prompted]
        tried = {t: self._answers(seat, prompts, t, "champion") for t in self._tried()}
        burdens = {temperature: self._burden(answers) for temperature, answers in tried.items()}
        best = min(tried, key=lambda temperature: burdens[temperature])
        indices, texts, placebo_logps, unmatched = self._placebos(seat, logps.chosen)
        gap = float((placebo_logps - logps.chosen[indices]).mean()) if indices else 0.0
        return ChampionView(
            logps=logps,
            tokens=tokens,
            # A judge, and every counter-metric, sees both models at one temperature: a copy must come out as a copy.
            answers=tried[self._temperature],
            best=[answer.text for answer in tried[best]],
            temperature=best,
            temperatures=burdens,
            placebo_indices=indices,
            placebo_texts=texts,
            placebo_logps=placebo_logps,
            placebo_gap=gap,
            placebo_unmatched=unmatched,
            anchors=self._anchors(seat),
            refusals=self._refusals(seat, "champion"),
        )

    def candidate(self, seat: Seat, view: ChampionView, champion: Seat) -> Material:
        """The material, without judgements. champion: needed again, to say what it thinks of the candidate's texts."""
        logps, _ = self._logps(seat, "candidate")
        prompts = [self._pairs[index].prompt for index in self._prompted]
        answers = self._answers(seat, prompts, self._temperature, "candidate")
        drift = self._drift(seat, champion, answers)
        anchors = self._anchors(seat)
        refusals = self._refusals(seat, "candidate")
        return Material(
            pairs=self._pairs,
            candidate_logps=logps,
            champion_logps=view.logps,
            chosen_tokens=view.tokens,
            prompted=self._prompted,
            candidate=_generations(answers),
            champion=_generations(view.answers),
            champion_best=view.best,
            drift=drift,
            champion_temperature=view.temperature,
            words=self._words | self._holdout_words() | known_words(view.best),
            placebos=self._rated_placebos(seat, view),
            anchors={name: AnchorLosses(anchors[name], view.anchors[name]) for name in anchors},
            refusals={name: RefusalAnswers(refusals[name], view.refusals[name]) for name in refusals},
            temperatures=view.temperatures,
        )

    def _tried(self) -> list[float]:
        return sorted({round(self._temperature * factor, 4) for factor in _TEMPERATURES})

    def _advance(self, activity: str, done: int) -> None:
        self._tick(activity, min(self._done + done, self._steps), self._steps)

    def _score(
        self, seat: Seat, sequences: list[tuple[list[int], int]], activity: str, planned: int | None = None
    ) -> Any:
        """planned: steps that this was counted as, where it is not one a sequence."""
        steps = len(sequences) if planned is None else planned

        def between(done: int) -> None:
            self._advance(activity, done * steps // len(sequences))

        found = score(seat.model, sequences, seat.tokenizer.pad_token_id, between)
        self._done += steps
        return found

    def _logps(self, seat: Seat, who: str) -> tuple[Logps, NDArray[np.int64]]:
        logps_P2 = np.zeros((len(self._pairs), 2))
        tokens_P = np.zeros(len(self._pairs), dtype=np.int64)
        # Token ids in Python's lists take many times the texts' bytes: of some pairs at a time.
        for start in range(0, len(self._pairs), _PAIRS_AT_ONCE):
            some = slice(start, start + _PAIRS_AT_ONCE)
            chosen, rejected = score_sides(
                seat.model,
                self._encoded(seat, self._pairs[some], "chosen"),
                self._encoded(seat, self._pairs[some], "rejected"),
                seat.tokenizer.pad_token_id,
                lambda n: self._advance(f"scoring, {who}", n),
                engine=self._engine,
            )
            self._done += 2 * len(chosen.logps)
            logps_P2[some] = np.stack([chosen.logps, rejected.logps], 1)
            tokens_P[some] = chosen.tokens
        return Logps(chosen=logps_P2[:, 0], rejected=logps_P2[:, 1]), tokens_P

    def _encoded(self, seat: Seat, pairs: list[Pair], side: str) -> list[tuple[list[int], int]]:
        return [encode(seat.tokenizer, p.prompt, getattr(p, side), self._maximum) for p in pairs]

    def _answers(self, seat: Seat, prompts: list[Text], temperature: float, who: str) -> list[Answer]:
        found = generate(
            seat.model,
            seat.tokenizer,
            prompts,
            temperature=temperature,
            maximum=self._longest_answer,
            seed=self._seed,
            between=lambda n: self._advance(f"generating, {who}", n),
        )
        self._done += len(prompts)
        return found

    def _drift(self, seat: Seat, champion: Seat, answers: list[Answer]) -> Drift:
        sequences = []
        for index, answer in zip(self._prompted, answers, strict=True):
            prompt = encode_prompt(seat.tokenizer, self._pairs[index].prompt)
            sequences.append((prompt + list(answer.ids), len(prompt)))
        compared = compare(
            seat.model,
            champion.model,
            sequences,
            seat.tokenizer.pad_token_id,
            lambda n: self._advance("comparing on generated texts", n),
        )
        self._done += len(sequences)
        return Drift(compared.second_logps, compared.divergences)

    def _burden(self, answers: list[Answer]) -> float:
        """Mean edit distance to people's final texts; where no pair is an edit, to the chosen sides."""
        pairs = [self._pairs[index] for index in self._prompted]
        at = [n for n, pair in enumerate(pairs) if pair.kind is Kind.EDIT] or range(len(pairs))
        finals = [plain(pairs[n].chosen) for n in at]
        return float(edit_distances([answers[n].text for n in at], finals).mean())

    def _placebos(
        self, seat: Seat, chosen: NDArray[np.float64]
    ) -> tuple[list[int], list[Text], NDArray[np.float64], int]:
        rng = random.Random("placebos")
        edited = self._edited
        if len(edited) > PLACEBO_PAIRS:
            edited = sorted(rng.sample(edited, PLACEBO_PAIRS))
        pool = Pool([plain(self._pairs[i].rejected) for i in edited])
        offered = [
            [_like(self._pairs[i].rejected, text) for text in self._placebos_of(i, pool, rng)] for i in edited
        ]
        sequences = [
            encode(seat.tokenizer, self._pairs[i].prompt, text, self._maximum)
            for i, texts in zip(edited, offered, strict=True)
            for text in texts
        ]
        planned = CANDIDATES * len(edited)
        found = self._score(seat, sequences, "scoring placebo edits", planned) if sequences else None
        logps = np.zeros(0) if found is None else found.logps
        rows = np.split(logps, np.cumsum([len(texts) for texts in offered])[:-1]) if offered else []
        taken = match(chosen[edited], rows)
        kept = [
            (i, n, row) for i, n, row in zip(edited, taken, range(len(edited)), strict=True) if n is not None
        ]
        return (
            [i for i, _, _ in kept],
            [offered[row][n] for _, n, row in kept],
            np.array([rows[row][n] for _, n, row in kept]),
            len(edited) - len(kept),
        )

    def _placebos_of(self, index: int, pool: Pool, rng: random.Random) -> list[str]:
        pair = self._pairs[index]
        return placebo_edits(plain(pair.rejected), plain(pair.chosen), pool, rng)

    def _rated_placebos(self, seat: Seat, view: ChampionView) -> Placebos | None:
        if not view.placebo_indices:
            return None
        sequences = [
            encode(seat.tokenizer, self._pairs[i].prompt, text, self._maximum)
            for i, text in zip(view.placebo_indices, view.placebo_texts, strict=True)
        ]
        return Placebos(
            indices=view.placebo_indices,
            candidate=self._score(
                seat, sequences, "scoring placebo edits", min(len(self._edited), PLACEBO_PAIRS)
            ).logps,
            champion=view.placebo_logps,
            mean_gap=view.placebo_gap,
            unmatched=view.placebo_unmatched,
        )

    def _anchors(self, seat: Seat) -> dict[str, NDArray[np.float64]]:
        """Loss per token of each text, nats."""
        found = {}
        for name, texts in self._sets.anchors.items():
            sequences = [(seat.tokenizer(text)["input_ids"][: self._maximum], 1) for text in texts]
            scored = self._score(seat, sequences, f"scoring anchor set {name}")
            found[name] = -scored.logps / np.maximum(scored.tokens, 1)
        return found

    def _refusals(self, seat: Seat, who: str) -> dict[str, list[str]]:
        return {
            name: [answer.text for answer in self._answers(seat, prompts, self._temperature, who)]
            for name, prompts in self._sets.refusals.items()
        }

    def _holdout_words(self) -> frozenset[str]:
        return known_words(_texts(self._pairs))


def _texts(pairs: Iterable[Pair]) -> Iterable[str]:
    return (plain(text) for pair in pairs for text in (pair.prompt, pair.chosen, pair.rejected))


def _single(text: Text) -> bool:
    """True for a string or a single message, which an edit can replace."""
    return isinstance(text, str) or len(text) == 1


def _like(original: Text, text: str) -> Text:
    return text if isinstance(original, str) else [{**original[0], "content": text}]


def _generations(answers: list[Answer]) -> list[Generation]:
    return [Generation(answer.text, len(answer.ids), answer.finished) for answer in answers]


def dump_generations(material: Material) -> str:
    """One JSON line per answered prompt: pair, final text, answers, and the judgement where there is one.

    champion: at the candidate's temperature, as a judge sees it; championBest: at the one where it needs the fewest edits.
    """
    lines = []
    for at, index in enumerate(material.prompted):
        pair = material.pairs[index]
        row: dict[str, Any] = {
            "pairId": pair.pair_id,
            "prompt": pair.prompt,
            "final": plain(pair.chosen),
            "candidate": material.candidate[at].text,
            "champion": material.champion[at].text,
            "championBest": material.champion_best[at],
        }
        if material.judgements is not None:
            judgement = material.judgements[at]
            row |= {"judged": str(judgement.outcome), "preference": judgement.preference}
        lines.append(json.dumps(row, ensure_ascii=False))
    return "\n".join(lines) + "\n"
