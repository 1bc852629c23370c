"""What the processes of a training do together, with two of them as threads that meet at a real store."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from pydantic import ValidationError

from alignment_trainer.errors import Stopped
from alignment_trainer.models.fetch import LocalModel
from alignment_trainer.models.folder import BaseRef
from alignment_trainer.runtime.crew import Crew
from alignment_trainer.training.group import Group
from support.runs import DIGEST


@pytest.fixture
def node() -> list[Group]:
    """Two processes of one node."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    client = dist.TCPStore("127.0.0.1", server.port, is_master=False)  # type: ignore[attr-defined]
    return [Group(Crew(processes=2, local=local), (server, client)[local]) for local in range(2)]


def test_one_process_that_waits_for_another_ends_when_told_to_stop(node: list[Group]) -> None:
    told = threading.Timer(0.3, node[1].stop.set)
    told.start()
    with pytest.raises(Stopped):
        node[1].once_per_node(lambda: pytest.fail("the first process does it"), int)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (45, int),
        (Path("/scratch/snapshot"), Path),
        (None, Path | None),
        (LocalModel(Path("/adapter"), Path("/base"), BaseRef(uri="s3://m/base/", digest=DIGEST)), LocalModel),
    ],
    ids=["number", "folder", "nothing", "model"],
)
def test_what_one_process_of_a_node_did_the_others_get(node: list[Group], value: Any, kind: Any) -> None:
    assert node[0].once_per_node(lambda: value, kind) == value
    assert node[1].once_per_node(lambda: pytest.fail("done already"), kind) == value


class Planted:
    """Pickled: whoever reads it, calls what the sender wanted called."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("the pickle was read",)


def test_what_a_stranger_left_in_the_store_is_not_run(node: list[Group]) -> None:
    node[0].store.set("done-0-1", pickle.dumps(Planted()))
    with pytest.raises(ValidationError):
        node[1].once_per_node(lambda: 1, int)
