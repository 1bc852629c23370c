"""Follows a run from look to look until it stays where it is, over moments in which its cluster does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from alignment_cli.errors import Unreachable
from alignment_cli.outcome import settled
from alignment_cli.output import warn

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun
    from alignment_cli.backend import Backend

__all__ = ["follow"]

LOOK_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 120.0
"""For how long a cluster may not answer: control planes are upgraded, laptops change networks, and a run takes hours."""


def follow(
    backend: Backend,
    name: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[AlignmentRun]:
    """The run as it is and at every change, to where it has ended or waits for a person.

    Raises CommandError as ``backend.get`` does; Unreachable at once at the first look, where a wrong context is likelier
    than an outage, and later when nobody has answered for ``PATIENCE_SECONDS``.
    """
    run = backend.get(name)
    yield run
    while not settled(run):
        sleep(LOOK_SECONDS)
        before, run = run, _look(backend, name, clock, sleep)
        if run.status != before.status or run.spec != before.spec:
            yield run


def _look(
    backend: Backend, name: str, clock: Callable[[], float], sleep: Callable[[float], None]
) -> AlignmentRun:
    """One look, repeated while nobody answers; a person reads about it once."""
    since: float | None = None
    while True:
        try:
            return backend.get(name)
        except Unreachable as error:
            now = clock()
            if since is None:
                since = now
                warn(f"{error.message.rstrip('.')}; asking again for {PATIENCE_SECONDS:.0f} s.")
            elif now - since > PATIENCE_SECONDS:
                raise
            sleep(LOOK_SECONDS)
