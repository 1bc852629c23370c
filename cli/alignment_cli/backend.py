"""Where runs live: the state folder of this machine, or a cluster. The same verbs on both.

``choose`` decides by what the person said: ``--state`` means this machine, ``--namespace`` or ``--context``
a cluster. Without either, ``kubectl align`` means the cluster, as every word said to kubectl does; ``align`` means
this machine where its state folder exists, else the cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from alignment_api.names import StageName
from alignment_cli.errors import CommandError

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun  # building the contract's models takes a while

__all__ = ["DEFAULT_STATE", "Backend", "by_kubectl", "choose", "readable"]

DEFAULT_STATE = Path(".align")
_PLUGIN: Final = frozenset({"kubectl-align", "kubectl_complete-align"})
"""What kubectl starts: the plugin, and what completes it."""


class Backend(Protocol):
    """Runs and what can be done with them."""

    remote: bool
    """True where the stages' own disks are out of this machine's reach."""

    def names(self) -> list[str]:
        """Names of the runs, for completion."""
        ...

    def list(self, *, everywhere: bool = False) -> tuple[list[AlignmentRun], list[CommandError]]:
        """All runs, oldest first, and why others cannot be read. everywhere: of all namespaces, where there are any."""
        ...

    def get(self, name: str) -> AlignmentRun:
        """One run. Raises CommandError when there is none."""
        ...

    def change(self, name: str, **changes: Any) -> AlignmentRun:
        """Set ``suspend`` or ``decision``. Raises CommandError with the rule's sentence when it is refused."""
        ...

    def delete(self, name: str, *, settled: bool = False) -> None:
        """Delete a run and what still works for it; its artifacts stay.

        settled: return when nothing works for it any more; raises CommandError when that does not come to be.
        """
        ...

    def logs(self, name: str, stage: StageName | None, *, follow: bool, node: int = 0) -> Iterator[str]:
        """Lines of a stage's newest attempt; of the newest stage when none is named. node: which of several."""
        ...

    def going_on(self, name: str) -> str:
        """One sentence: what goes on with a run after a person has changed it."""
        ...

    def command(self, *words: str) -> str:
        """The command line of these words that means this place, wherever it is typed."""
        ...

    def place(self, run: AlignmentRun) -> str:
        """Where a run is, in words that no other place shares: said before and after something is gone for good."""
        ...

    def user(self) -> str:
        """Who is asking, for decisions."""
        ...


def readable(
    read: Callable[[Any], AlignmentRun], kept: Iterable[Any]
) -> tuple[list[AlignmentRun], list[CommandError]]:
    """The runs that can be read, in order, and why the others cannot: one damaged run must not hide the rest."""
    runs: list[AlignmentRun] = []
    refusals: list[CommandError] = []
    for item in kept:
        try:
            runs.append(read(item))
        except CommandError as error:
            refusals.append(error)
    return runs, refusals


def by_kubectl() -> bool:
    """Whether this program was called as ``kubectl align``."""
    return Path(sys.argv[0]).name in _PLUGIN


def choose(
    state: Path | None, namespace: str | None, context: str | None, *, cluster: bool = False
) -> Backend:
    """The backend for a command's options. cluster: another option has named the cluster."""
    cluster = cluster or bool(namespace or context)
    if state is not None and cluster:
        raise CommandError(
            "--state means this machine, --namespace, --context and --all-namespaces a cluster; give one or the other."
        )
    if state is not None or (not cluster and not by_kubectl() and DEFAULT_STATE.is_dir()):
        from alignment_cli.embedded.backend import EmbeddedBackend

        return EmbeddedBackend(state or DEFAULT_STATE)
    from alignment_cli.cluster.backend import ClusterBackend

    return ClusterBackend(namespace, context)
