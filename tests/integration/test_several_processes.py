"""Training with several processes and several nodes: the losses of one, one exit code, nobody left behind. Gloo on CPU."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignment_api.stage import StageFailure, StageResult
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.training import selection
from support.material import pair
from support.stageprocess import StageProcess, raising, signal_at, start, start_nodes
from support.tiny import save_tiny_gpt2, save_tiny_model
from support.trainstage import TrainStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAIRS = [pair(number) for number in range(45)]
"""Not a multiple of the pairs per step, and the last step's rest not one of the number of processes."""
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "learningRate": 1e-2, "epochs": 2}
FULL: dict[str, Any] = {"learningRate": 1e-3, "epochs": 2}
KINDS = {
    "LoRA": LORA,
    "full weights, TRL": FULL | {"engine": "TRL", "model": "tied"},
    "full weights of a family that is spread as one unit": FULL | {"model": "gpt2"},
}
"""Full weights of ours are those that are told to stop, below."""
SMALL_MICRO_BATCHES = "import alignment_trainer.training.schedule as s\ns._TOKENS_PER_MICRO_BATCH = 200\n"
"""Several micro-batches a step: gradients then have to stay on their process until the last one."""
TORN_DOWN_BADLY = "import atexit, os\nif os.environ.get('RANK') == '1':\n    atexit.register(os.abort)\n"
"""A thread of gloo's that wants Python's lock at the very end aborts its process, now and then; here it always happens."""
NOTED = """
import json, os
from pathlib import Path
import alignment_trainer.training.selection as selection
def clearly_lower(*held):
    file = Path(os.environ["ALIGNMENT_SCRATCH"]) / "held.json"
    file.write_text(json.dumps([side.tolist() for side in held]))
selection.clearly_lower = clearly_lower
"""
"""Each node notes by which losses of its own it chooses, and keeps the last checkpoint."""
PID_1_WITHOUT_TORCH = (
    "import os, sys\nif 'ALIGNMENT_LOCAL_RANK' not in os.environ:\n    sys.modules['torch'] = None\n"
)
TWO = {"ALIGNMENT_PROCESSES": "2"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> TrainStage:
    folder = tmp_path_factory.mktemp("stage")
    return TrainStage((folder / "store").as_uri() + "/", folder)


@pytest.fixture(scope="module")
def models(stage: TrainStage) -> dict[str, str]:
    """Models whose head has the embeddings' weights: most small ones are so."""
    save_tiny_model(stage.scratch / "tied", tied=True)
    save_tiny_gpt2(stage.scratch / "gpt2")
    return {
        name: upload_folder(stage.scratch / name, f"{stage.root}{name}/", stage.stores(stage.root)).uri
        for name in ("tied", "gpt2")
    }


def names_in(folder: Path) -> set[str]:
    """Weights in a folder's safetensors."""
    return {name for file in folder.glob("*.safetensors") for name in load_file(file)}


def ended(process: StageProcess, code: int) -> StageProcess:
    """The process, which must have ended so."""
    assert process.wait() == code, process.log[-6000:]
    return process


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_losses_and_the_weights_of_one(
    stage: TrainStage, models: dict[str, str], kind: str, tmp_path: Path
) -> None:
    number, settings = list(KINDS).index(kind), dict(KINDS[kind])
    settings["model"] = models.get(settings.get("model", ""), stage.model)
    alone = stage.run(f"alone-{number}", PAIRS, **settings)
    request = stage.request(f"two-{number}", PAIRS, **settings)
    two = ended(start(request, tmp_path, prelude=SMALL_MICRO_BATCHES + TORN_DOWN_BADLY, **TWO), 0)
    assert two.losses == pytest.approx(alone.losses, abs=2e-5)
    assert two.record["schedule"]["processes"] == 2
    candidate = stage.scratch / "store" / "artifacts" / "runs"
    (folder,) = candidate.glob(f"*/two-{number}-*/candidate")
    assert names_in(folder) == names_in(alone.model.folder)
    assert two.progress["percent"] == 100
    assert not list((tmp_path / "scratch").iterdir()), "PID 1 clears the scratch folder up"


def test_a_warm_start_and_a_selection_slice_are_shared_too(stage: TrainStage, tmp_path: Path) -> None:
    settings = FULL | {
        "warmStart": {"epochs": 1, "learningRate": 1e-3},
        "selectionFraction": 0.4,
    }
    pairs = [pair(number) for number in range(64)]
    alone = stage.run("warm-alone", pairs, **settings)
    together = ended(start(stage.request("warm-together", pairs, **settings), tmp_path, **TWO), 0)
    curves = [alone.record["curve"], together.record["curve"]]
    for name in ("loss", "eval_loss"):
        one, two = ([entry[name] for entry in curve if name in entry] for curve in curves)
        assert two == pytest.approx(one, abs=2e-4), name


def test_two_nodes_have_the_losses_of_one_choose_the_checkpoint_by_them_and_node_0_speaks(
    stage: TrainStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second node has no checkpoints, and one pair of the slice is left over for two processes to share."""
    rng = random.Random(3)

    def noise() -> str:
        return "".join(rng.choices("abcdefghijklmnop", k=8))

    pairs = [replace(pair(number), chosen=noise(), rejected=noise()) for number in range(64)]
    settings = {
        "lora": {"rank": 4, "alpha": 8},
        "learningRate": 2e-2,
        "epochs": 6,
        "beta": 1.0,
        "sftWeight": 0,
    }
    held_alone: list[list[float]] = []
    monkeypatch.setattr(
        selection,
        "clearly_lower",
        lambda *held: bool(held_alone.extend(sorted(side.tolist()) for side in held)),
    )
    alone = stage.run("chosen-alone", pairs, **settings, selectionFraction=0.3)
    assert len(held_alone[0]) % 2, "one is left over"
    request = stage.request("chosen-by-two", pairs, **settings, selectionFraction=0.3)
    request = request.model_copy(update={"spec": with_nodes(request.spec, 2)})
    first, second = start_nodes(request, tmp_path, 2, prelude=NOTED)
    for node in (first, second):
        ended(node, 0)
        held = json.loads((node.folder / "scratch" / "held.json").read_text(encoding="utf-8"))
        assert [sorted(side) for side in held] == [pytest.approx(side, abs=1e-3) for side in held_alone]
    assert first.losses == pytest.approx(alone.losses, abs=1e-3)
    assert isinstance(first.last_word, StageResult)
    assert second.last_word is None
    assert second.progress == {}


def with_nodes(spec: Any, nodes: int) -> Any:
    train = spec.pods.train.model_copy(update={"nodes": nodes})
    return spec.model_copy(update={"pods": spec.pods.model_copy(update={"train": train})})


def test_nodes_that_count_differently_end_at_once_with_a_sentence(stage: TrainStage, tmp_path: Path) -> None:
    request = stage.request("uneven", PAIRS)
    request = request.model_copy(update={"spec": with_nodes(request.spec, 2)})
    from support.stageprocess import free_port

    meeting = {
        "ALIGNMENT_NODES": "2",
        "ALIGNMENT_MASTER_ADDRESS": "127.0.0.1",
        "ALIGNMENT_MASTER_PORT": str(free_port()),
    }
    nodes = [
        start(
            request,
            tmp_path / str(node),
            **meeting,
            ALIGNMENT_NODE_RANK=str(node),
            ALIGNMENT_PROCESSES=str(count),
        )
        for node, count in enumerate((1, 2))
    ]
    codes = [node.wait() for node in nodes]
    assert codes[0] == 64, nodes[0].log[-4000:]
    word = nodes[0].last_word
    assert isinstance(word, StageFailure)
    assert word.reason == "WorldSizeInvalid"
    assert "every node needs the same number of GPUs" in word.message
    assert codes[1] != 0


def test_the_processes_look_for_the_gpus_that_were_asked_for_and_pid_1_does_not_load_torch(
    stage: TrainStage, tmp_path: Path
) -> None:
    seen = torch.cuda.device_count()
    request = stage.request("elsewhere", PAIRS)
    process = start(request, tmp_path, prelude=PID_1_WITHOUT_TORCH, ALIGNMENT_GPUS=str(max(seen, 1) + 1))
    ended(process, 75)
    assert isinstance(process.last_word, StageFailure)
    assert process.last_word.reason == "GpusMissing"
    assert f"torch sees {seen}" in process.last_word.message


def test_the_first_process_that_fails_decides(stage: TrainStage, tmp_path: Path) -> None:
    prelude = raising("MemoryError()", rank=1) + TORN_DOWN_BADLY
    process = ended(start(stage.request("fails", PAIRS), tmp_path, prelude=prelude, **TWO), 1)
    assert isinstance(process.last_word, StageFailure)
    assert process.last_word.reason == "OutOfMemory"


def test_of_two_nodes_one_fails_and_the_other_says_that_it_lost_it(stage: TrainStage, tmp_path: Path) -> None:
    request = stage.request("lost", PAIRS)
    request = request.model_copy(update={"spec": with_nodes(request.spec, 2)})
    prelude = raising("DataError('no pairs', reason='TooFewPairs')", rank=1)
    other, failed = start_nodes(request, tmp_path, 2, prelude=prelude)
    ended(failed, 65)
    ended(other, 75)
    assert isinstance(other.last_word, StageFailure)
    assert other.last_word.reason == "PeerLost"
    assert "Traceback" in other.log, "what torch said of it"


def test_a_killed_process_ends_a_peer_that_hangs(stage: TrainStage, tmp_path: Path) -> None:
    # Process 1 stops (as in a collective that never returns), then process 0 is killed, as for want of memory.
    prelude = signal_at(2, signal.SIGSTOP, rank=1) + signal_at(2, signal.SIGKILL, rank=0)
    process = start(stage.request("killed", PAIRS, **LORA), tmp_path, prelude=prelude, **TWO)
    process.until(lambda: len(process.children()) == 2)
    children = process.children()
    ended(process, 137)
    assert isinstance(process.last_word, StageFailure)
    assert process.last_word.reason == "OutOfMemory"
    assert "Process 0 of the training was killed" in process.last_word.message
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_nobody_outlives_pid_1(stage: TrainStage, tmp_path: Path) -> None:
    process = start(stage.request("orphans", PAIRS), tmp_path, **TWO)
    process.until(lambda: len(process.children()) == 2)
    children = process.children()
    process.until(lambda: "progress on port" in process.log)
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait(30)
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a process without PID 1 lives on"
        time.sleep(0.05)  # not our children: no event to wait for


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_told_to_stop_all_stop_after_the_same_step_and_two_nodes_go_on_to_the_losses_of_one(
    stage: TrainStage, models: dict[str, str], tmp_path: Path
) -> None:
    settings = FULL | {"model": models["tied"]}
    alone = stage.run("not-stopped", PAIRS, **settings)
    request = stage.request("stopped", PAIRS, **settings)
    prelude = SMALL_MICRO_BATCHES + signal_at(5, signal.SIGTERM, to="os.getppid()", rank=1)
    stopped = ended(start(request, tmp_path, prelude=prelude, **TWO), 143)
    assert isinstance(stopped.last_word, StageFailure)
    assert stopped.last_word.reason == "Stopped"
    apart = request.model_copy(update={"attempt": 2, "spec": with_nodes(request.spec, 2)})
    prelude = SMALL_MICRO_BATCHES + signal_at(1, signal.SIGABRT)  # it must not begin anew
    first, second = start_nodes(apart, tmp_path / "again", 2, prelude=prelude)
    ended(first, 0)
    ended(second, 0)
    assert first.losses == pytest.approx(alone.losses, abs=2e-5)
