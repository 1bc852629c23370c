"""The operator's only way to the API server: a dozen calls, rate-limited, counted, with errors of our own.

Rights needed (the chart grants exactly these; namespaced Roles when namespaces are listed):

    alignment.dev    alignmentruns             get list watch
    alignment.dev    alignmentruns/status      patch
    alignment.dev    alignmentruns/finalizers  update        (OpenShift asks for it to set owner references)
    batch            jobs                      get list watch create delete
    core             pods                      get list watch
    core             services                  create        (several nodes: a headless Service)
    core             events                    list create   (list: why a Job could not create its pods)
    coordination     leases                    get create update   (own namespace, with leader election)
    kueue.x-k8s.io   workloads                 list          (with Kueue: why a run waits)
    pods' port 8081 over the network           (progress of running stages)

Knows paths and patch formats; decides nothing. A write is never repeated here: after an error the caller looks
again, because only the cluster knows what became of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from alignment_api.names import API_VERSION, LABEL_RUN, PLURAL
from alignment_operator.errors import ApiError
from alignment_operator.limiter import TokenBucket
from alignment_operator.queue import Key

__all__ = ["CHILDREN_SELECTOR", "JOBS", "PODS", "RUNS", "Gateway", "Observer", "Resource", "Transport"]

Json = dict[str, Any]
CHILDREN_SELECTOR = LABEL_RUN
"""Label selector of Jobs and pods that belong to runs, applied by the server."""
_PAGE = 200
"""Objects per page: a finished run takes 10 KiB on the wire and five times that when parsed."""
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"


class Resource:
    """A kind of object by its place in the API."""

    def __init__(self, version: str, plural: str) -> None:
        self.plural = plural
        self.root = f"/api/{version}" if "/" not in version else f"/apis/{version}"

    def path(self, namespace: str | None, name: str = "") -> str:
        """Path of the collection or of one object; namespace None: across all."""
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.root}{inside}/{self.plural}{f'/{name}' if name else ''}"


RUNS = Resource(API_VERSION, PLURAL)
JOBS = Resource("batch/v1", "jobs")
PODS = Resource("v1", "pods")
SERVICES = Resource("v1", "services")
EVENTS = Resource("v1", "events")
LEASES = Resource("coordination.k8s.io/v1", "leases")
WORKLOADS = Resource("kueue.x-k8s.io/v1beta1", "workloads")


class Transport(Protocol):
    """One HTTP exchange with the API server."""

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and decoded body. Raises Unreachable when there was no answer."""
        ...


class Observer(Protocol):
    """Who counts the calls."""

    def request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """One call has ended; code 0: no answer."""
        ...

    def wrote(self, resource: str, namespace: str, version: str) -> None:
        """A write has taken effect: the object has this version now."""
        ...


class Gateway:
    """Calls to the API server. All raise ApiError; Unreachable when there was no answer."""

    def __init__(
        self, transport: Transport, bucket: TokenBucket, observer: Observer, clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._bucket = bucket
        self._observer = observer
        self._clock = clock

    # -- reading ------------------------------------------------------------------------------------

    async def list_pages(
        self, resource: Resource, namespace: str | None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        """All objects in pages, with the version of the listing. Raises ApiError 410 when it grew too old."""
        query = {"limit": str(_PAGE)}
        if resource is not RUNS:
            query["labelSelector"] = CHILDREN_SELECTOR
        while True:
            page = await self._call("list", resource, "GET", resource.path(namespace), query)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def get_run(self, key: Key) -> Json | None:
        """A run as it is now, or None."""
        return await self._get(RUNS, key)

    async def get_job(self, key: Key) -> Json | None:
        """A Job as it is now, or None."""
        return await self._get(JOBS, key)

    async def pods_of_job(self, job: Key) -> list[Json]:
        """Pods of a Job as they are now."""
        query = {"labelSelector": f"{CHILDREN_SELECTOR},batch.kubernetes.io/job-name={job.name}"}
        return await self._items(PODS, job.namespace, query)

    async def job_refusals(self, job: Key, uid: str) -> list[Json]:
        """Events that say why a Job could not create its pods (quota, policy)."""
        query = {"fieldSelector": f"involvedObject.uid={uid},reason=FailedCreate"}
        return await self._items(EVENTS, job.namespace, query)

    async def pod_warnings(self, pod: Key, uid: str) -> list[Json]:
        """Events that say why a pod that has its node does not start (a volume, a secret, its network)."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning,reason!=FailedScheduling"}
        return await self._items(EVENTS, pod.namespace, query)

    async def workloads_of_job(self, job: Key, uid: str) -> list[Json]:
        """Kueue's Workloads of a Job."""
        return await self._items(WORKLOADS, job.namespace, {"labelSelector": f"kueue.x-k8s.io/job-uid={uid}"})

    # -- writing ------------------------------------------------------------------------------------

    async def write_status(self, key: Key, version: str, status: Json) -> Json:
        """Replace a run's status if the run is still at ``version``; the run as it is then.

        A JSON patch that sets the version: the server answers 409 when it has moved. Replacing the whole status
        leaves no field of an earlier one behind, as a merge patch would.
        """
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = f"{RUNS.path(key.namespace, key.name)}/status"
        answer = await self._call("patch-status", RUNS, "PATCH", path, {}, patch, _JSON_PATCH)
        self._observer.wrote(RUNS.plural, key.namespace, answer["metadata"]["resourceVersion"])
        return answer

    async def create_job(self, manifest: Json) -> Json:
        """Create a Job; what the server made of it."""
        answer = await self._create(JOBS, manifest)
        metadata = answer["metadata"]
        self._observer.wrote(JOBS.plural, metadata["namespace"], metadata["resourceVersion"])
        return answer

    async def create_service(self, manifest: Json) -> Json:
        """Create a Service."""
        return await self._create(SERVICES, manifest)

    async def create_event(self, manifest: Json) -> Json:
        """Create an Event."""
        return await self._create(EVENTS, manifest)

    async def delete_job(self, key: Key, uid: str, *, wait: bool = True) -> None:
        """Delete this very Job, after its pods have ended; without ``wait`` at once. One that is gone already is fine."""
        policy = "Foreground" if wait else "Background"
        body = {"preconditions": {"uid": uid}, "propagationPolicy": policy}
        try:
            await self._call("delete", JOBS, "DELETE", JOBS.path(key.namespace, key.name), {}, body)
        except ApiError as error:
            if not error.not_found:
                raise

    # -- leases -------------------------------------------------------------------------------------

    async def get_lease(self, key: Key) -> Json | None:
        """The Lease, or None."""
        return await self._get(LEASES, key)

    async def create_lease(self, manifest: Json) -> Json:
        """Create the Lease; 409 when another replica was first."""
        return await self._create(LEASES, manifest)

    async def replace_lease(self, manifest: Json) -> Json:
        """Replace the Lease; 409 when another replica was first."""
        metadata = manifest["metadata"]
        path = LEASES.path(metadata["namespace"], metadata["name"])
        return await self._call("update", LEASES, "PUT", path, {}, manifest)

    # -- inside -------------------------------------------------------------------------------------

    async def _get(self, resource: Resource, key: Key) -> Json | None:
        try:
            return await self._call("get", resource, "GET", resource.path(key.namespace, key.name), {})
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _items(self, resource: Resource, namespace: str, query: dict[str, str]) -> list[Json]:
        page = await self._call("list", resource, "GET", resource.path(namespace), query)
        items: list[Json] = page.get("items") or []
        return items

    async def _create(self, resource: Resource, manifest: Json) -> Json:
        path = resource.path(manifest["metadata"]["namespace"])
        return await self._call("create", resource, "POST", path, {}, manifest)

    async def _call(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content_type: str = _JSON,
    ) -> Json:
        await self._bucket.take()
        began, code = self._clock(), 0
        try:
            code, headers, answer = await self._transport.request(method, path, query, body, content_type)
        finally:
            self._observer.request(verb, resource.plural, code, self._clock() - began)
        if code >= 400:
            raise _error(code, headers, answer)
        result: Json = answer
        return result


def _error(code: int, headers: Mapping[str, str], answer: Any) -> ApiError:
    status = answer if isinstance(answer, dict) else {}
    wait = headers.get("Retry-After", "")
    message = str(status.get("message") or answer or "no message")[:1024]
    return ApiError(code, str(status.get("reason") or ""), message, float(wait) if wait.isdecimal() else None)
