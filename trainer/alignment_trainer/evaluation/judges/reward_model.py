"""A judge that is a model: sequence classification with one output, higher for the better answer.

It sees one answer at a time, so there is no position to swap. Its scores are compared within a prompt only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from alignment_api.spec import Precision
from alignment_trainer.data.rows import Text
from alignment_trainer.errors import RequestError
from alignment_trainer.evaluation.judges.base import Comparison, Judgement, Outcome
from alignment_trainer.evaluation.scoring import encode

__all__ = ["RewardModelJudge"]

_TIE: Final = 1e-6
_BATCH: Final = 16


class RewardModelJudge:
    """folder: the model on this machine. uri, digest: where it came from, for the report. maximum: tokens per text."""

    def __init__(self, folder: Path, *, uri: str, digest: str, precision: Precision, maximum: int) -> None:
        self._folder = folder
        self._uri, self._digest = uri, digest
        self._precision = precision
        self._maximum = maximum

    def check(self, prompts: Sequence[Text]) -> None:
        """Read configuration and tokenizer. Raises RequestError when it is no reward model, or cannot read these prompts."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self._folder, trust_remote_code=False)
        named = " ".join(config.architectures or ())
        if "SequenceClassification" not in named or config.num_labels != 1:
            raise RequestError(
                f"{self._uri} is {named or 'no known architecture'} with {config.num_labels} labels; a reward model is a "
                "sequence classification model with one label. Name another in evaluation.judge.uri.",
                reason="JudgeInvalid",
            )
        tokenizer = self._load_tokenizer()
        for form in (str, list):
            prompt = next((prompt for prompt in prompts if isinstance(prompt, form)), None)
            if prompt is not None:
                self._require_form(tokenizer, prompt)

    def compare(self, comparisons: Sequence[Comparison], between: Callable[[int], None]) -> list[Judgement]:
        """Score both answers of each comparison."""
        model, tokenizer = self._load()
        found: list[Judgement] = []
        for start in range(0, len(comparisons), _BATCH):
            some = comparisons[start : start + _BATCH]
            sequences = [
                _encoded(tokenizer, c.prompt, text, self._maximum)
                for c in some
                for text in (c.candidate, c.champion)
            ]
            scores = _score(model, sequences, tokenizer.pad_token_id)
            found += [_judged(ours, theirs) for ours, theirs in zip(scores[::2], scores[1::2], strict=True)]
            between(len(found))
        return found

    def describe(self) -> dict[str, Any]:
        """The model and its digest."""
        return {"type": "RewardModel", "uri": self._uri, "digest": self._digest}

    def _require_form(self, tokenizer: Any, prompt: Text) -> None:
        form = "texts" if isinstance(prompt, str) else "conversations"
        needed = (
            "an end token (eos_token)" if isinstance(prompt, str) else "a chat template and a padding token"
        )
        try:
            usable = _encoded(tokenizer, prompt, "yes", self._maximum) and tokenizer.pad_token is not None
        except Exception as error:  # noqa: BLE001  templates and tokenizers raise what they like
            usable, needed = False, f"{needed}: {type(error).__name__}"
        if not usable:
            raise RequestError(
                f"The tokenizer of {self._uri} cannot encode the {form} of the holdout; it needs {needed}. Name another reward "
                "model in evaluation.judge.uri.",
                reason="JudgeInvalid",
            )

    def _load_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForSequenceClassification

        cuda = torch.cuda.is_available()
        low = cuda and self._precision is Precision.BFLOAT16
        model = AutoModelForSequenceClassification.from_pretrained(
            self._folder,
            dtype=torch.bfloat16 if low else torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
        )
        tokenizer = self._load_tokenizer()
        model.config.pad_token_id = tokenizer.pad_token_id
        return model.to("cuda" if cuda else "cpu").eval(), tokenizer


def _encoded(tokenizer: Any, prompt: Text, text: str, maximum: int) -> list[int]:
    answer: Text = text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
    return encode(tokenizer, prompt, answer, maximum)[0]


def _score(model: Any, sequences: list[list[int]], pad: int) -> list[float]:
    import torch

    longest = max(len(ids) for ids in sequences)
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in sequences])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences])
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    return [float(score) for score in logits[:, 0].float().cpu()]


def _judged(ours: float, theirs: float) -> Judgement:
    if ours != ours or theirs != theirs:  # noqa: PLR0124  not a number
        return Judgement(Outcome.FAILED)
    return Judgement(Outcome.JUDGED, 0.5 if abs(ours - theirs) <= _TIE else float(ours > theirs))
