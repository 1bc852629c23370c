"""Does the watch still bring what happens? Compares it with changes known from elsewhere.

A watch that has gone silent looks like a cluster in which nothing happens. What tells them apart is a change we
know of by other means: our own writes, and what a complete listing found. Each must come back as an event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from alignment_operator.records import version_number

__all__ = ["Freshness"]

Scope = tuple[str, str]
"""Resource and namespace of one watch; namespace empty: the whole cluster."""


class Freshness:
    """Remembers, by watch, which versions are awaited and since when. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[Scope, int] = {}
        self._awaited: dict[Scope, tuple[int, float]] = {}

    def expect(self, scope: Scope, version: str) -> None:
        """A change with this version has happened: the watch must bring it. The oldest one still awaited counts."""
        number = version_number(version)
        if number > self._seen.get(scope, 0) and scope not in self._awaited:
            self._awaited[scope] = (number, self._clock())

    def listed(self, scope: Scope, versions: Iterable[str]) -> None:
        """A complete listing holds these versions: what it no longer has, the watch need not bring."""
        newest = max(map(version_number, versions), default=0)
        awaited = self._awaited.get(scope)
        if awaited is not None and awaited[0] > newest:
            del self._awaited[scope]  # deleted meanwhile: a watch that listed anew never tells
        self.expect(scope, str(newest))

    def saw(self, scope: Scope, version: str) -> None:
        """The watch brought this version, and with it everything older."""
        number = version_number(version)
        self._seen[scope] = max(self._seen.get(scope, 0), number)
        awaited = self._awaited.get(scope)
        if awaited is not None and awaited[0] <= number:
            del self._awaited[scope]

    def lag(self, resource: str) -> float:
        """Seconds since the oldest change that a watch of this resource owes us; 0 when it owes nothing."""
        since = [at for (name, _), (_, at) in self._awaited.items() if name == resource]
        return self._clock() - min(since) if since else 0.0
