"""What the processes of a training do together, with two of them as threads that meet at a real store."""

from __future__ import annotations

import threading

import pytest
import torch.distributed as dist

from alignment_trainer.errors import Stopped
from alignment_trainer.runtime.crew import Crew
from alignment_trainer.training.group import Group


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
        node[1].once_per_node(lambda: pytest.fail("the first process does it"))
