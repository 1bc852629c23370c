"""The processes that train together, joined: what they decide together, share, and do once.

One process alone is a group of one, for which everything here is free. The processes meet at a key-value store of
torch's, kept by process 0; there they first compare what each of them believes the crew to be.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from alignment_trainer.errors import RequestError, Stopped, TemporaryError
from alignment_trainer.runtime.crew import Crew

__all__ = ["Group", "join"]

T = TypeVar("T")
_MEETING: Final = timedelta(minutes=30)
"""How long the processes wait for each other at the start: a pod may have an image of many gigabytes to pull."""
_COLLECTIVE: Final = timedelta(hours=1)
"""How long a process waits for the others in the middle of the work, a checkpoint's upload included; then it fails,
and the launcher ends the rest."""
_NODE_WORK: Final = timedelta(days=1)
"""How long the other processes of a node wait for what one does for them all, such as fetching the model."""
_LOOK_SECONDS: Final = 0.1


@dataclass
class Group:
    """A crew whose processes have met. stop: set when this one is told to stop."""

    crew: Crew = field(default_factory=Crew)
    store: Any = None
    stop: threading.Event = field(default_factory=threading.Event)
    _done: int = 0

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.crew.size

    @property
    def rank(self) -> int:
        """Number of this process among them."""
        return self.crew.rank

    @property
    def leads(self) -> bool:
        """True for the process that stores, uploads and reports."""
        return self.crew.leads

    def once_per_node(self, make: Callable[[], T], kind: Any) -> T:
        """What ``make`` returns, called by one process of each node; the others get a copy. To be called by all.

        kind: the type of it, a plain one or a dataclass of those. It travels as JSON: whoever reaches the store's port can
        write there, and what is read must not be able to do anything.
        """
        if self.crew.processes == 1:
            return make()
        self._done += 1
        key = f"done-{self.crew.node}-{self._done}"
        form: TypeAdapter[T] = TypeAdapter(kind)
        if not self.crew.local:
            value = make()
            self.store.set(key, form.dump_json(value))
            return value
        _await(self.store, [key], _NODE_WORK, self.stop)
        return form.validate_json(self.store.get(key))

    def any(self, mine: bool) -> bool:  # noqa: FBT001  a vote
        """True when one process at least says so."""
        return self.largest(int(mine)) > 0

    def largest(self, mine: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return mine
        number = torch.tensor(mine, dtype=torch.int64)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number)

    def total(self, mine: torch.Tensor) -> torch.Tensor:
        """The sum of the processes' tensors, on the CPU; ``mine`` is overwritten."""
        if self.size > 1:
            dist.all_reduce(mine)
        return mine

    def from_leader(self, mine: T | None) -> T:
        """The leading process's value."""
        box = [mine]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        value: Any = box[0]
        return value  # type: ignore[no-any-return]

    def copy_from_leader(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors, which every process has in the same order and shape, with the leading process's."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Until all have come to this point."""
        if self.size > 1:
            dist.barrier()


def join(crew: Crew, stop: threading.Event) -> Group:
    """Meet the others. Raises RequestError WorldSizeInvalid when they do not agree on who they are, TemporaryError PeerMissing.

    stop: set by the signal handler; where this process waits for others, it is looked at. Then raises Stopped.
    """
    if crew.size == 1:
        return Group(crew, stop=stop)
    store = _meet(crew, stop)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(crew.local or 0)
    # Numbers on the CPU go through gloo also where the gradients go through NCCL.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),  # type: ignore[attr-defined]  # as above
        rank=crew.rank,
        world_size=crew.size,
        timeout=_COLLECTIVE,
    )
    return Group(crew, store, stop)


def _await(store: Any, keys: list[str], longest: timedelta, stop: threading.Event) -> None:
    """Wait until the keys are in the store. Not by its own means: a wait in torch's code does not hear SIGTERM."""
    deadline = time.monotonic() + longest.total_seconds()
    while not store.check(keys):
        if time.monotonic() > deadline:
            raise dist.DistStoreError(f"{len(keys)} keys are not there after {longest}")
        if stop.wait(_LOOK_SECONDS):  # the store has no event to wait for
            raise Stopped("Stopped while others of the training were waited for; the next attempt goes on.")


def _meet(crew: Crew, stop: threading.Event) -> Any:
    """A store that all of the crew have reached, and in which each has found the others to be what it thinks they are."""
    said = f"{crew.nodes} nodes of {crew.processes} processes"
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]  # torch exports it all the same
            crew.address,
            crew.port,
            is_master=crew.leads,
            timeout=_MEETING,
            wait_for_workers=False,
            master_listen_fd=crew.socket,
        )
        store.set(f"node-{crew.node}", said)
        for node in range(crew.nodes):
            _await(store, [f"node-{node}"], _MEETING, stop)
            theirs = store.get(f"node-{node}").decode()
            if theirs != said:
                raise RequestError(
                    f"Node {crew.node} knows of {said}, node {node} of {theirs}: every node needs the same number of GPUs "
                    "(spec.pods.train.resources) and the same spec.pods.train.nodes.",
                    reason="WorldSizeInvalid",
                )
        store.set(f"process-{crew.rank}", "")
        _await(store, [f"process-{rank}" for rank in range(crew.size)], _MEETING, stop)
    except (dist.DistStoreError, dist.DistNetworkError) as error:
        raise TemporaryError(
            f"Process {crew.rank} of {crew.size} did not meet the others at {crew.address}:{crew.port} "
            f"({type(error).__name__}): one did not start, or a NetworkPolicy of the namespace keeps the pods apart.",
            reason="PeerMissing",
        ) from None
    return store
