"""Early stopping that does not cheat: training chooses its checkpoint on the train side and never reads the holdout."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from alignment_trainer.data.rows import Pair
from alignment_trainer.data.snapshot import Split, write_split
from alignment_trainer.data.split import Side
from alignment_trainer.training.dataset import mostly_edits, select_slice
from support.material import pair
from support.trainstage import TrainStage

pytestmark = pytest.mark.slow


def stage(folder: Path) -> TrainStage:
    return TrainStage((folder / "store").as_uri() + "/", folder / "local")


def pairs(count: int) -> list[Pair]:
    return [pair(number, group=f"g{number}") for number in range(count)]


def test_training_selects_on_its_own_side_and_works_with_an_unreadable_holdout(tmp_path: Path) -> None:
    gentle = {"learningRate": 1e-3, "pairsPerStep": None, "selectionFraction": None}
    record = stage(tmp_path).run("selects", pairs(200), **gentle).record
    assert record["selectionPairs"] >= 16
    assert record["trainPairs"] + record["selectionPairs"] == 200, "both slices come from the train side"
    evaluated = [entry for entry in record["curve"] if "eval_loss" in entry]
    assert evaluated, "the checkpoint was chosen by the selection slice's loss"


def test_a_spec_that_says_nothing_of_training_trains(tmp_path: Path) -> None:
    """Full weights in bfloat16, engine Auto."""
    nothing = dict.fromkeys(("precision", "maxLength", "epochs", "pairsPerStep", "selectionFraction"))
    training = stage(tmp_path).run("default", pairs(24), **nothing).result.training
    assert training is not None
    assert training.engine == "PrefixShared"
    assert training.final_loss is not None
    assert math.isfinite(training.final_loss)


def test_the_selection_slice_keeps_groups_whole() -> None:
    members = [pair(number, group=f"g{number % 40}") for number in range(400)]
    kept, apart = select_slice(members, 0.2)
    assert {p.group for p in kept}.isdisjoint({p.group for p in apart})
    assert sorted([*kept, *apart], key=members.index) == members
    assert (len(kept), len(apart)) == (len(list(kept)), len(list(apart)))
    assert len(apart) > 0


def test_a_large_group_is_never_set_apart(caplog: pytest.LogCaptureFixture) -> None:
    small = [pair(number, group=f"g{number % 40}") for number in range(400)]
    _, expected = select_slice(small, 0.2)
    sizes = []
    for name in range(12):  # some of these names fall below the share
        kept, apart = select_slice([*small, *[pair(n, group=f"large {name}") for n in range(600)]], 0.2)
        assert list(apart) == list(expected), "what else is set apart stays the same"
        sizes.append(len(kept))
    assert sizes == [1000 - len(expected)] * 12
    assert "600 of 1000 pairs" in caplog.text


def test_the_slice_is_read_from_the_file_anew_each_time(tmp_path: Path) -> None:
    members = [pair(number) for number in range(600)]
    write_split(members, tmp_path, Side.TRAIN)
    kept, apart = select_slice(Split(tmp_path, Side.TRAIN), 0.1)
    expected = [list(part) for part in select_slice(members, 0.1)]
    for _ in range(2):
        ids = [[p.pair_id for p in part] for part in (kept, apart)]
        assert ids == [[p.pair_id for p in part] for part in expected]
    assert not mostly_edits([])
    assert mostly_edits(kept)
