"""Whether the champion reads the tokens that the model writes: what evaluate scores under both are the same ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alignment_api.status import ModelPin
from alignment_trainer.data.lengths import ModelText
from alignment_trainer.errors import RequestError
from alignment_trainer.models.fetch import read_model_file
from alignment_trainer.models.resolve import ModelPins
from alignment_trainer.storage.store import ObjectStore

__all__ = ["read_text", "require_known_tokens"]


def read_text(pins: ModelPins, stores: Callable[[str], ObjectStore], scratch: Path) -> ModelText:
    """What prepare needs of the model to read texts. Raises RequestError where it or the champion cannot be used."""

    def load(pin: ModelPin) -> ModelText:
        return ModelText.load(lambda name: read_model_file(pin, name, stores, scratch), pin.uri)

    model = load(pins.model)
    if pins.champion.digest != pins.model.digest:
        require_known_tokens(model, load(pins.champion))
    return model


def require_known_tokens(model: ModelText, champion: ModelText) -> None:
    """Refuse a champion to which the model's token ids mean something else, or nothing.

    Log-probabilities per token, and the champion's view of the candidate's texts, would compare different things. Raises
    RequestError before anything is trained.
    """
    known = champion.tokenizer.get_vocab(with_added_tokens=True)
    wanted = model.tokenizer.get_vocab(with_added_tokens=True)
    foreign = sum(known.get(token) != number for token, number in wanted.items())
    if foreign:
        raise RequestError(
            f"Champion {champion.model_uri} has another tokenizer than model {model.model_uri}: {foreign} of {len(wanted)} "
            "tokens have another id, or none. They cannot be compared token by token; name a champion with the same tokenizer "
            "in evaluation.champion, or publish models on the new base under an alias of their own.",
            reason="TokenizerDiffers",
        )
