"""The door into the store: what watches bring and what complete listings find, turned into records and queued.

A listing is the truth at its version: it brings what a watch missed, and what it lacks is gone (a watch that
listed anew brings no deletions). It is made page by page at the start and again at every resync.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

from alignment_operator.errors import ApiError
from alignment_operator.freshness import Freshness
from alignment_operator.gateway import JOBS, PODS, RUNS, Gateway, Resource
from alignment_operator.queue import Key, WorkQueue
from alignment_operator.records import job_record, pod_record, run_record
from alignment_operator.store import Store

__all__ = ["Intake"]

_log = logging.getLogger(__name__)
Json = dict[str, Any]
Change = Literal["ADDED", "MODIFIED", "DELETED"] | None
"""Kind of a watch event; None: found when the watch began."""


class Intake:
    """Feeds the store and queues the runs that something was learnt of, once their namespace has been listed.

    namespaces: those that are watched; empty: the whole cluster, with one watch for all of it.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        gateway: Gateway,
        freshness: Freshness,
        *,
        namespaces: tuple[str, ...],
    ) -> None:
        self._store = store
        self._queue = queue
        self._gateway = gateway
        self._freshness = freshness
        self._namespaces = namespaces
        self._scopes: tuple[str | None, ...] = namespaces or (None,)
        self._early: dict[str | None, dict[Key, None]] = {scope: {} for scope in self._scopes}
        """By namespace that has not been listed yet, the runs that wait for it."""
        self._failing: set[str | None] = set()

    @property
    def failing(self) -> int:
        """Number of namespaces that could not be listed the last time: deleted, or without the rights; 1 for the cluster."""
        return len(self._failing)

    # -- watches ------------------------------------------------------------------------------------

    def watched(self, resource: Resource, change: Change, raw: Json) -> None:
        """A watch brought an object."""
        metadata = raw["metadata"]
        self._freshness.saw(self._scope(resource, metadata["namespace"]), metadata["resourceVersion"])
        if change == "DELETED":
            self._enqueue(self._put(resource, raw))  # the last word of a pod, or that a Job was let go
            self._enqueue(
                self._delete(resource)(Key(metadata["namespace"], metadata["name"]), metadata["uid"])
            )
        else:
            self._enqueue(self._put(resource, raw))

    # -- listings -----------------------------------------------------------------------------------

    async def list_all(self) -> None:
        """List everything, remove what is gone, queue every run that has not finished.

        A namespace that cannot be listed keeps what is known of it and stops no other. Raises ApiError when nothing
        could be listed.
        """
        errors = [error for scope in self._scopes if (error := await self._list_scope(scope)) is not None]
        if len(errors) == len(self._scopes):
            raise errors[-1]

    async def list_failing(self) -> None:
        """List what could not be listed the last time."""
        for scope in tuple(self._failing):
            await self._list_scope(scope)

    async def _list_scope(self, namespace: str | None) -> ApiError | None:
        """One namespace, or the cluster. Runs come first: the children of a finished run need not be kept."""
        try:
            for resource in (RUNS, JOBS, PODS):
                await self._list(resource, namespace)
        except ApiError as error:
            if namespace is not None and namespace not in self._failing:
                _log.warning("namespace %s is left out until it can be listed: %s", namespace, error)
            self._failing.add(namespace)
            return error
        if namespace in self._failing and namespace is not None:
            _log.info("namespace %s can be listed", namespace)
        self._failing.discard(namespace)
        for key in self._early.pop(namespace, ()):
            self._queue.review(key)
        for record in self._store.runs():
            if not record.finished and namespace in (None, record.key.namespace):
                self._queue.review(record.key)
        return None

    async def _list(self, resource: Resource, namespace: str | None) -> None:
        uids: set[str] = set()
        versions: list[str] = []
        listing = ""
        async for items, version in self._gateway.list_pages(resource, namespace):
            listing = version
            for raw in items:
                uids.add(raw["metadata"]["uid"])
                versions.append(raw["metadata"]["resourceVersion"])
                self._review(self._put(resource, raw))
        self._freshness.listed((resource.plural, namespace or ""), versions)
        prune = {
            RUNS: self._store.prune_runs,
            JOBS: self._store.prune_jobs,
            PODS: self._store.prune_pods,
        }[resource]
        for key in prune(uids, listing, namespace):
            _log.info("%s of run %s is gone, which no watch has told", resource.plural, key)
            self._enqueue(key)

    # -- inside -------------------------------------------------------------------------------------

    def _put(self, resource: Resource, raw: Json) -> Key | None:
        try:
            return self._taken_in(resource, raw)
        except Exception:  # noqa: BLE001  one object that trips us must not keep all others from being seen
            metadata = raw["metadata"]
            where = f"{metadata['namespace']}/{metadata['name']}"
            _log.exception(
                "%s %s cannot be read: a defect of the operator, please report it", resource.plural, where
            )
            return None

    def _taken_in(self, resource: Resource, raw: Json) -> Key | None:
        if resource is RUNS:
            return self._store.put_run(run_record(raw))
        if resource is JOBS:
            return self._store.put_job(job_record(raw))
        return self._store.put_pod(pod_record(raw))

    def _delete(self, resource: Resource) -> Callable[[Key, str], Key | None]:
        if resource is RUNS:
            return self._store.delete_run
        return self._store.delete_job if resource is JOBS else self._store.delete_pod

    def _enqueue(self, key: Key | None) -> None:
        if key is not None and not self._is_early(key):
            self._queue.add(key)

    def _review(self, key: Key | None) -> None:
        if key is not None and not self._is_early(key):
            self._queue.review(key)

    def _is_early(self, key: Key) -> bool:
        """True as long as part of what belongs to a run may be unknown; it is queued as soon as all is known."""
        waiting = self._early.get(key.namespace if self._namespaces else None)
        if waiting is None:
            return False
        waiting[key] = None
        return True

    def _scope(self, resource: Resource, namespace: str) -> tuple[str, str]:
        return resource.plural, namespace if self._namespaces else ""
