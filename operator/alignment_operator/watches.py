"""The glue to kopf: its watches deliver what happens, and nothing else of it is used.

``on.event`` handlers only: no finalizers, no annotations, no timers, no daemons (docs/adr says why, with measured
numbers). Errors of a handler would be swallowed there, so the handlers only hand over.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import kopf

from alignment_api.names import GROUP, PLURAL, VERSION
from alignment_operator.connection import login
from alignment_operator.gateway import CHILDREN_SELECTOR, JOBS, PODS, RUNS, Resource

__all__ = ["watch"]

_SERVER_SECONDS = 300
"""A watch ends after this time and begins anew: a connection that died in silence does not live for ever."""
_EXIT_SECONDS = 25.0


class _Retries:
    """Pauses between tries to reach the API server, for ever.

    kopf's own give up, and end the process, after a minute; one namespace that is gone must not end the watches of others.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5, 8), itertools.repeat(10))


Watched = Callable[[Resource, Any, dict[str, Any]], None]


async def watch(watched: Watched, *, namespaces: tuple[str, ...], begun: asyncio.Event) -> None:
    """Call ``watched`` with every change, until cancelled or told to stop by a signal. begun: set when watches start."""
    await kopf.operator(
        registry=_registry(watched),
        settings=_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=begun,
    )


def _registry(watched: Watched) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def credentials(**_: Any) -> kopf.ConnectionInfo:
        return login()

    def hand_over(resource: Resource) -> Callable[..., Coroutine[None, None, None]]:
        async def handler(event: Any, **_: Any) -> None:  # async: kopf runs plain functions in threads
            watched(resource, event["type"], event["object"])

        return handler

    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="runs")(hand_over(RUNS))
    kopf.on.event("batch", "v1", "jobs", registry=registry, id="jobs")(hand_over(JOBS))
    kopf.on.event("", "v1", "pods", registry=registry, id="pods")(hand_over(PODS))
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no rights on CRDs and namespaces
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.watching.server_timeout = _SERVER_SECONDS
    settings.watching.client_timeout = _SERVER_SECONDS + 10
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 200  # what is listed is not held as a whole
    settings.watching.label_selectors["batch", "v1", "jobs"] = CHILDREN_SELECTOR
    settings.watching.label_selectors["", "v1", "pods"] = CHILDREN_SELECTOR
    settings.queueing.idle_timeout = 0.05  # a worker holds its last object until it ends
    settings.networking.error_backoffs = _Retries()
    settings.networking.request_timeout = 60
    settings.process.ultimate_exiting_timeout = _EXIT_SECONDS
    for name in ("kopf.activities", "kopf.objects", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return settings
