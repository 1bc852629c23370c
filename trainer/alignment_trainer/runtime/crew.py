"""The processes that train together: how many, on how many nodes, and which one this is. Pure but for counting GPUs.

Read once, by :mod:`alignment_trainer.main`, from the variables that the operator sets on the pods of an attempt. One
process drives one GPU. A pod's first process (PID 1) starts those of its node, see :mod:`.launcher`; each of them finds
its own place in the same variables, and looks whether the GPUs are there. Where a variable says how many they are, PID 1,
which lives as long as the training, does not load torch for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from alignment_api.names import StageName
from alignment_api.stage import StageRequest
from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.runtime.collector import collector_at_rest

__all__ = [
    "ADDRESS",
    "GPUS",
    "LAUNCHER",
    "LOCAL_RANK",
    "NODES",
    "NODE_RANK",
    "PORT",
    "PROCESSES",
    "SOCKET",
    "Crew",
    "read_crew",
    "visible_gpus",
]

NODES: Final = "ALIGNMENT_NODES"
"""Pods that train together; absent: this one alone."""
NODE_RANK: Final = "ALIGNMENT_NODE_RANK"
"""Which of them this is, from 0."""
ADDRESS: Final = "ALIGNMENT_MASTER_ADDRESS"
"""Where node 0 is."""
PORT: Final = "ALIGNMENT_MASTER_PORT"
"""Port there at which the processes meet."""
GPUS: Final = "ALIGNMENT_GPUS"
"""GPUs that the pod asked for; absent: nobody asked."""
PROCESSES: Final = "ALIGNMENT_PROCESSES"
"""Processes of a node; absent: one per GPU that was asked for, else per visible one, one without any."""
LOCAL_RANK: Final = "ALIGNMENT_LOCAL_RANK"
"""Set by the launcher alone: which process of its node this is, from 0."""
LAUNCHER: Final = "ALIGNMENT_LAUNCHER"
"""Set by the launcher alone: its process id."""
SOCKET: Final = "ALIGNMENT_MASTER_SOCKET"
"""Set by the launcher alone, for process 0: number of the listening socket that it hands down."""


@dataclass(frozen=True)
class Crew:
    """All processes of a training, numbered node by node.

    processes: of each node. local: this one's number on its node; None for PID 1, and where there is one process only.
    address, port: where process 0 is met. socket: process 0's listening socket, inherited. gpus: how many the pod asked
    for; None: nobody asked.
    """

    nodes: int = 1
    node: int = 0
    processes: int = 1
    local: int | None = None
    address: str = "127.0.0.1"
    port: int = 0
    socket: int | None = None
    gpus: int | None = None

    @property
    def size(self) -> int:
        """Number of processes of all nodes."""
        return self.nodes * self.processes

    @property
    def rank(self) -> int:
        """Number of this process among all."""
        return self.node * self.processes + (self.local or 0)

    @property
    def leads(self) -> bool:
        """True for the one process that stores the result and tells the progress."""
        return self.rank == 0

    def check_gpus(self, seen: int) -> None:
        """Compare the GPUs that torch sees with those that were asked for, and with the processes that are to drive them.

        Raises TemporaryError GpusMissing, RequestError WorldSizeInvalid.
        """
        if self.gpus is not None and self.gpus != seen:
            raise TemporaryError(
                f"spec.pods.train.resources asks for {self.gpus} GPUs, and torch sees {seen} on this node: its driver, its "
                "device plugin or the image does not fit. It is tried again.",
                reason="GpusMissing",
            )
        if seen and self.processes != seen:
            raise _wrong(f"{PROCESSES} is {self.processes}, and {seen} GPUs are visible")


def visible_gpus() -> int:
    """GPUs that torch sees here."""
    with collector_at_rest():
        import torch

    return torch.cuda.device_count()


def read_crew(
    request: StageRequest, environment: Mapping[str, str], gpus: Callable[[], int] = visible_gpus
) -> Crew:
    """The crew of a stage's process. Every stage but train works alone.

    gpus: counts them, where no variable says how many. Raises RequestError WorldSizeInvalid for variables that contradict
    each other or the spec.
    """
    if request.stage is not StageName.TRAIN:
        return Crew()
    nodes = _number(environment, NODES, 1)
    node = _number(environment, NODE_RANK, 0)
    if NODES in environment and nodes != request.spec.pods.train.nodes:
        raise _wrong(f"{NODES} is {nodes}, and spec.pods.train.nodes {request.spec.pods.train.nodes}")
    if nodes < 1 or not 0 <= node < nodes:
        raise _wrong(f"{NODE_RANK} is {node}, of {nodes} nodes numbered from 0")
    if nodes > 1 and not (environment.get(ADDRESS) and environment.get(PORT)):
        raise _wrong(f"{ADDRESS} and {PORT} are missing, and {nodes} nodes have to meet there")
    asked = _given(environment, GPUS)
    processes = _given(environment, PROCESSES)
    if processes is None:
        processes = max(1, gpus() if asked is None else asked)
    for name, number, least in ((GPUS, asked, 0), (PROCESSES, processes, 1)):
        if number is not None and number < least:
            raise _wrong(f"{name} is {number}, and the least is {least}")
    if asked and processes != asked:
        raise _wrong(f"{PROCESSES} is {processes}, and the pod asks for {asked} GPUs")
    wanted = request.spec.training.pairs_per_step
    if wanted is not None and wanted < nodes * processes:
        raise RequestError(
            f"spec.training.pairsPerStep is {wanted}, fewer than the {nodes * processes} processes that would share "
            "them (nodes times GPUs): raise it, or ask for fewer GPUs.",
            reason="WorldSizeInvalid",
        )
    if nodes * processes > 1 and str(request.spec.training.loss).startswith("aot"):
        raise RequestError(
            f"spec.training.loss {request.spec.training.loss} compares the pairs of a step with each other, and "
            f"{nodes * processes} processes would each see a part of them: ask for one GPU, or take another loss.",
            reason="WorldSizeInvalid",
        )
    return Crew(
        nodes=nodes,
        node=node,
        processes=processes,
        local=_given(environment, LOCAL_RANK),
        address=environment.get(ADDRESS, "127.0.0.1"),
        port=_number(environment, PORT, 0),
        socket=_given(environment, SOCKET),
        gpus=asked,
    )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    given = _given(environment, name)
    return default if given is None else given


def _given(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    try:
        return int(text) if text else None
    except ValueError:
        raise _wrong(f"{name} is {text!r}") from None


def _wrong(what: str) -> RequestError:
    return RequestError(
        f"The processes of this training cannot be numbered: {what}. Set them alike on every node.",
        reason="WorldSizeInvalid",
    )
