"""A judge behind an OpenAI-compatible endpoint: both orders asked, answers kept by content, never a guess.

An order is one question. Both orders must agree on a winner; disagreement is a tie, because position decided
(arXiv 2406.07791). Answers are kept in the artifacts store by the hash of model, prompt and texts, so a retry or another
run that meets the same texts asks nothing. No text is kept, only hashes and verdicts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final

from alignment_trainer.data.rows import Text
from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.evaluation.judges.base import Comparison, Judgement, Outcome
from alignment_trainer.evaluation.judges.http import ANSWER_TOKENS, CapReached, ChatClient, NoAnswer
from alignment_trainer.evaluation.judges.prompt import PROMPT_DIGEST, Choice, messages, read_choice
from alignment_trainer.storage import uris
from alignment_trainer.storage.store import ObjectStore

__all__ = ["OpenAIJudge"]

_AT_ONCE: Final = 8
_ROUNDS: Final = 2
_CHECKS: Final = 3
_CHOICES: Final = {Choice.FIRST: 1.0, Choice.SECOND: 0.0, Choice.TIE: 0.5}

Answer = Choice | Outcome
"""What came of one order: a choice, or why there is none."""


class OpenAIJudge:
    """cache: folder URI for judgements; store: of that folder."""

    def __init__(self, client: ChatClient, cache: str, store: ObjectStore) -> None:
        self._client = client
        self._store = store
        name = hashlib.sha256(f"{client.url}\0{client.model}\0{PROMPT_DIGEST}".encode()).hexdigest()[:32]
        self._folder = uris.join(cache, name)
        self._cached = 0

    def check(self, _prompts: Sequence[Text]) -> None:
        """Ask something small. Raises RequestError or TemporaryError."""
        try:
            if any(self._answers_in_form() for _ in range(_CHECKS)):
                return
        except CapReached:
            return
        except NoAnswer as error:
            if error.transport:
                raise TemporaryError(
                    f"The judge at {self._client.url} does not answer ({error}); it is asked again in the next attempt.",
                    reason="JudgeUnavailable",
                ) from None
            raise RequestError(
                f"The judge at {self._client.url} refuses chat completions ({error}); check evaluation.judge.",
                reason="JudgeRefused",
            ) from None
        raise RequestError(
            f"The judge {self._client.model} at {self._client.url} does not answer with one line VERDICT: A, B or TIE within "
            f"{ANSWER_TOKENS} tokens, asked {_CHECKS} times; every prompt would go without a judgement. Take a model that "
            "follows the form (one that thinks aloud first does not).",
            reason="JudgeInvalid",
        )

    def _answers_in_form(self) -> bool:
        return read_choice(self._client.ask(messages("Say yes.", "yes", "no"))) is not None

    def compare(self, comparisons: Sequence[Comparison], between: Callable[[int], None]) -> list[Judgement]:
        """Both orders of each comparison, several at once; at the end those that nobody answered once more."""
        answers: dict[tuple[int, bool], Answer] = {}
        open_ones = [(number, swapped) for number in range(len(comparisons)) for swapped in (False, True)]
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="judge")
        try:
            for _ in range(_ROUNDS):
                waiting = {
                    pool.submit(self._ask, comparisons[number], swapped=swapped): (number, swapped)
                    for number, swapped in open_ones
                }
                for done in as_completed(waiting):
                    answers[waiting[done]] = done.result()
                    between(len(answers) // 2)
                open_ones = [order for order in open_ones if answers[order] is Outcome.UNREACHED]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return [
            _combined(answers[number, False], answers[number, True]) for number in range(len(comparisons))
        ]

    def describe(self) -> dict[str, Any]:
        """Endpoint, model, prompt digest and what was used."""
        return {
            "type": "OpenAICompatible",
            "url": self._client.url,
            "model": self._client.model,
            "promptDigest": PROMPT_DIGEST,
            "requests": self._client.caps.requests,
            "tokens": self._client.caps.tokens,
            "answersFromCache": self._cached,
        }

    def _ask(self, comparison: Comparison, *, swapped: bool) -> Answer:
        pair = (comparison.candidate, comparison.champion)
        first, second = reversed(pair) if swapped else pair
        question = messages(comparison.prompt, first, second)
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        uri = uris.join(self._folder, f"{key}.json")
        kept = self._kept(uri)
        if kept is not None:
            self._cached += 1
            return kept
        try:
            choice = read_choice(self._client.ask(question))
        except CapReached:
            return Outcome.CAPPED
        except NoAnswer as error:
            return Outcome.UNREACHED if error.transport else Outcome.FAILED
        if choice is None:
            return Outcome.ABSTAINED
        self._store.put(uri, json.dumps({"choice": str(choice)}).encode())
        return choice

    def _kept(self, uri: str) -> Choice | None:
        if self._store.stat(uri) is None:
            return None
        data, _ = self._store.get(uri)
        try:
            return Choice(json.loads(data)["choice"])
        except (ValueError, KeyError, TypeError):
            return None  # damaged: ask again and write it anew


def _combined(straight: Answer, swapped: Answer) -> Judgement:
    """One judgement from both orders. Where one has no choice, its reason counts; failures before abstentions."""
    for reason in (Outcome.CAPPED, Outcome.UNREACHED, Outcome.FAILED, Outcome.ABSTAINED):
        if reason in (straight, swapped):
            return Judgement(reason)
    assert isinstance(straight, Choice)  # noqa: S101  no reason was found above
    assert isinstance(swapped, Choice)  # noqa: S101
    ours, other = _CHOICES[straight], 1 - _CHOICES[swapped]
    return Judgement(Outcome.JUDGED, ours if ours == other else 0.5)
