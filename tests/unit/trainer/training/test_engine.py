"""Which forward runs: PrefixShared where it is exact, else TRL's, with one line in the log that says why."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from alignment_api.spec import Engine
from alignment_trainer.training.engine import choose_engine
from alignment_trainer.training.prefix import attention, forward, packing
from alignment_trainer.training.prefix.packing import PackedBatch
from support.material import pair
from support.preference import batch_of, random_model
from support.trainstage import TrainStage

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2}


@pytest.mark.parametrize("wanted", [Engine.AUTO, Engine.PREFIX_SHARED])
def test_where_sharing_is_not_exact_trl_runs_and_one_line_says_why(
    wanted: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model("llama")
    assert choose_engine(wanted, model) is Engine.PREFIX_SHARED
    assert choose_engine(Engine.TRL, model) is Engine.TRL
    model.config.sliding_window = 16
    with caplog.at_level(logging.INFO):
        assert choose_engine(wanted, model) is Engine.TRL
    (line,) = caplog.messages
    assert line.startswith("engine TRL: the prefix-shared forward is not used, because of a sliding")


def test_a_packed_row_whose_segments_are_lost_is_an_error_in_every_layer() -> None:
    model = random_model("llama")
    seam = forward.install(model, attention.sdpa_segments)
    batch = batch_of([([5, 6, 7], [8, 9, 2], [8, 10, 2])])
    packed = packing.pack(*(batch[name] for name in ("input_ids", "attention_mask", "completion_mask")))
    whole = seam.run(packed)["log_probs"]
    assert torch.isfinite(whole).all()
    decoder = model.model.forward
    for lost in ("segments", "segment_backend"):
        model.model.forward = lambda *args, lost=lost, **kwargs: decoder(
            *args, **{name: value for name, value in kwargs.items() if name != lost}
        )
        with pytest.raises(attention.SegmentsLost):
            seam.run(packed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("moved", "says"), [("places", "log_probs differs by"), ("segments", "the segments of a packed row")]
)
def test_a_seam_that_moved_is_found_at_the_start_and_trl_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moved: str, says: str
) -> None:
    stage = TrainStage((tmp_path / "store").as_uri() + "/", tmp_path)
    pairs = [pair(number) for number in range(16)]
    plain = stage.run("plain", pairs, **LORA, engine="TRL")
    if moved == "places":  # as if TRL began to read the fields one token further on
        kept = PackedBatch.spread
        monkeypatch.setattr(PackedBatch, "spread", lambda self, values: kept(self, values).roll(1, -1))
    else:  # as if transformers no longer handed unknown arguments on to its layers
        decoder = LlamaModel.forward
        monkeypatch.setattr(
            LlamaModel, "forward", lambda *args, **kwargs: decoder(*args, **kwargs | {"segments": None})
        )
    other = stage.run("moved", pairs, **LORA)
    assert f"the prefix-shared forward differs from TRL's ({says}" in caplog.text
    assert other.result.training is not None
    assert other.result.training.engine == "TRL"
    losses = [[entry["loss"] for entry in run.record["curve"]] for run in (plain, other)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
