"""A Kubernetes API server in memory: what an operator can tell apart from a real one, and nothing else.

Resource versions and conflicts, the status subresource, JSON patches, label and field selectors, pages with
continue tokens, watches that replay and that expire (410), preconditions, foreground deletion, the garbage
collector. No schema: the contract's models check what is written. Time is the caller's.
"""

from __future__ import annotations

import itertools
import json
import marshal
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["ApiServer", "Change", "ServerError", "copied", "over_the_wire"]

Json = dict[str, Any]
ObjectKey = tuple[str, str, str]
"""Plural, namespace, name."""
_PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>status))?$"
)


def over_the_wire(value: Any) -> Any:
    """The value as the other side gets it: a copy, of what JSON can carry (and far quicker than a deep copy)."""
    return json.loads(json.dumps(value))


def copied(item: Json) -> Json:
    """A copy of what came over the wire once; the quickest way there is."""
    copy: Json = marshal.loads(marshal.dumps(item))  # noqa: S302  of our own making, a line above
    return copy


class ServerError(Exception):
    """An answer with status 400 or above."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Change:
    """One entry of the history that watches replay. before: the object until then."""

    version: int
    kind: str
    plural: str
    object: Json
    before: Json | None


class ApiServer:
    """All objects of a cluster. clock: what time it is there; admit: may refuse a creation by raising ServerError."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.clock = clock
        self.objects: dict[ObjectKey, Json] = {}
        self.history: list[Change] = []
        self.oldest = 0
        self.version = 100
        self.admit: Callable[[str, Json], None] = lambda _plural, _object: None
        self.idle_writes: list[str] = []
        self.created: list[ObjectKey] = []
        self.requests: list[tuple[str, str]] = []
        self._names = itertools.count(1)

    # -- as a program sees it -------------------------------------------------------------------------

    def handle(
        self, method: str, path: str, query: Mapping[str, str], body: Any
    ) -> tuple[int, dict[str, str], Any]:
        """One request, answered."""
        self.requests.append((method, path))
        try:
            return (
                (201 if method == "POST" else 200),
                {},
                copied(self._answer(method, path, query, body)),
            )
        except ServerError as error:
            status = {
                "apiVersion": "v1",
                "kind": "Status",
                "status": "Failure",
                "code": error.status,
                "reason": error.reason,
                "message": str(error),
            }
            return error.status, {}, status

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Json:
        match = _PATH.match(path)
        if match is None:
            raise ServerError(404, "NotFound", f"the server could not find {path}")
        plural, namespace, name = match["plural"], match["namespace"] or "", match["name"] or ""
        if method == "GET":
            return self.get((plural, namespace, name)) if name else self.list(plural, namespace, query)
        if method == "POST":
            return self.create(plural, body)
        if method == "PUT":
            return self.replace(plural, body)
        if method == "PATCH" and match["sub"] == "status":
            return self.patch_status((plural, namespace, name), body)
        if method == "DELETE":
            return self.delete((plural, namespace, name), **_delete_options(body))
        raise ServerError(405, "MethodNotAllowed", f"{method} {path}")

    # -- objects --------------------------------------------------------------------------------------

    def get(self, key: ObjectKey) -> Json:
        if key not in self.objects:
            raise ServerError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self.objects[key]

    def of(self, plural: str) -> list[Json]:
        """All objects of a kind, oldest first."""
        return [item for (kind, _, _), item in self.objects.items() if kind == plural]

    def list(self, plural: str, namespace: str, query: Mapping[str, str]) -> Json:
        """A page. Its continue token holds the version, the selectors are the client's to repeat."""
        version, start = self.version, 0
        if token := query.get("continue"):
            version, start = map(int, token.split(":"))
            if version < self.oldest:
                raise ServerError(410, "Expired", "The provided continue parameter is too old")
        items = [
            item
            for (kind, where, _), item in sorted(self.objects.items())
            if kind == plural
            and where in (namespace, where if not namespace else "")
            and matches(item, query)
        ]
        end = start + int(query.get("limit") or len(items) or 1)
        more = {"continue": f"{version}:{end}"} if end < len(items) else {}
        return {
            "kind": "List",
            "metadata": {"resourceVersion": str(version), **more},
            "items": items[start:end],
        }

    def create(self, plural: str, raw: Json) -> Json:
        item = over_the_wire(raw)
        metadata = item["metadata"]
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._names):05d}"
        key = (plural, metadata["namespace"], metadata["name"])
        if key in self.objects:
            raise ServerError(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
        self.admit(plural, item)
        metadata |= {
            "uid": metadata.get("uid") or str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": self.time(),
        }
        self.created.append(key)
        return self._store("ADDED", key, item)

    def replace(self, plural: str, raw: Json) -> Json:
        metadata = raw["metadata"]
        key = (plural, metadata["namespace"], metadata["name"])
        known = self.get(key)
        if metadata.get("resourceVersion", "") not in ("", known["metadata"]["resourceVersion"]):
            raise ServerError(409, "Conflict", "the object has been modified")
        return self._store("MODIFIED", key, over_the_wire(raw))

    def change(self, key: ObjectKey, **fields: Any) -> Json:
        """Change top-level fields, as a controller or a person does; a changed spec is a new generation."""
        item = copied(self.get(key))
        item.update(over_the_wire(fields))
        if "spec" in fields:
            item["metadata"]["generation"] += 1
        return self._store("MODIFIED", key, item)

    def patch_status(self, key: ObjectKey, patch: list[Json]) -> Json:
        """A JSON patch of the form that the operator sends: a version that must hold, and a whole status."""
        known = self.get(key)
        item = copied(known)
        for operation in patch:
            if operation["path"] == "/metadata/resourceVersion":
                if operation["value"] != known["metadata"]["resourceVersion"]:
                    raise ServerError(409, "Conflict", "the object has been modified")
            elif operation["path"] == "/status":
                item["status"] = over_the_wire(operation["value"])
            else:
                raise ServerError(422, "Invalid", f"unexpected {operation['path']}")
        if item.get("status") == known.get("status"):
            self.idle_writes.append(key[2])
        return self._store("MODIFIED", key, item)

    def delete(self, key: ObjectKey, *, uid: str = "", foreground: bool = False) -> Json:
        item = self.get(key)
        if uid and item["metadata"]["uid"] != uid:
            raise ServerError(409, "Conflict", "the UID in the precondition does not match")
        if foreground:
            if "deletionTimestamp" not in item["metadata"]:
                item = copied(item)
                item["metadata"] |= {"deletionTimestamp": self.time(), "finalizers": ["foregroundDeletion"]}
                self._store("MODIFIED", key, item)
            return item
        return self.remove(key)

    def remove(self, key: ObjectKey) -> Json:
        """Take an object out of the store at once."""
        item = copied(self.objects.pop(key))
        self._record("DELETED", key[0], item)
        return item

    def tell_to_stop(self, pod: Json) -> bool:
        """Mark a pod as deleted, as everybody but its kubelet may; False when it is marked already.

        As in a real cluster the mark is the moment when it is killed at the latest.
        """
        if "deletionTimestamp" in pod["metadata"]:
            return False
        item = copied(pod)
        grace = timedelta(seconds=item["spec"].get("terminationGracePeriodSeconds", 30))
        item["metadata"]["deletionTimestamp"] = _written(self.clock() + grace)
        self._store("MODIFIED", ("pods", item["metadata"]["namespace"], item["metadata"]["name"]), item)
        return True

    def collect_garbage(self) -> bool:
        """One step of the garbage collector; False when there is nothing to do, or pods have to stop first."""
        living = {item["metadata"]["uid"] for item in self.objects.values()}
        for key, item in self.objects.items():
            owners = item["metadata"].get("ownerReferences") or []
            if owners and not any(owner["uid"] in living for owner in owners) and self._take_away(key):
                return True
            if "foregroundDeletion" in item["metadata"].get("finalizers", ()):
                uid = item["metadata"]["uid"]
                children = self._children(uid)
                if not children:
                    return self._take_away(key)
                if any(self._take_away_in_turn(child) for child in children):
                    return True
        return False

    def _children(self, uid: str) -> list[ObjectKey]:
        return [key for key, item in self.objects.items() if _owned(item, uid)]

    def _take_away_in_turn(self, key: ObjectKey) -> bool:
        """A child of what is deleted in the foreground waits for its own children."""
        item = self.objects[key]
        if not self._children(item["metadata"]["uid"]):
            return self._take_away(key)
        marked = "deletionTimestamp" in item["metadata"]
        self.delete(key, foreground=True)
        return not marked

    def _take_away(self, key: ObjectKey) -> bool:
        if key[0] == "pods":
            return self.tell_to_stop(self.objects[key])
        self.remove(key)
        return True

    # -- watches --------------------------------------------------------------------------------------

    def changes(self, plural: str, namespace: str, since: int, query: Mapping[str, str]) -> list[Change]:
        """What a watch brings. Raises ServerError 410 when that is no longer known."""
        if since < self.oldest:
            raise ServerError(410, "Expired", f"too old resource version: {since}")
        start = since - self.history[0].version + 1 if self.history else 0
        found = []
        for change in self.history[max(0, start) :]:
            where = change.object["metadata"]["namespace"]
            if change.plural != plural or where not in (namespace, where if not namespace else ""):
                continue
            if matches(change.object, query):
                found.append(change)
            elif change.before is not None and matches(change.before, query):
                found.append(_out_of_sight(change, change.before))
        return found

    def as_of(self, version: int) -> ApiServer:
        """What a server that lags behind would hold."""
        past = ApiServer(self.clock)
        for change in self.history:
            if change.version > version:
                break
            metadata = change.object["metadata"]
            key = (change.plural, metadata["namespace"], metadata["name"])
            past.version = change.version
            if change.kind == "DELETED":
                past.objects.pop(key, None)
            else:
                past.objects[key] = change.object
        return past

    def forget_history(self) -> None:
        """Compact: watches and continue tokens from before now expire."""
        self.oldest = self.version
        self.history.clear()

    def time(self) -> str:
        """Now, as Kubernetes writes it."""
        return _written(self.clock())

    def _store(self, kind: str, key: ObjectKey, item: Json) -> Json:
        # In place: objects keep the order in which they were created.
        self._record(kind, key[0], item, self.objects.get(key))
        self.objects[key] = item
        return item

    def _record(self, kind: str, plural: str, item: Json, before: Json | None = None) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Change(self.version, kind, plural, item, before))


def _out_of_sight(change: Change, before: Json) -> Change:
    """What a watch by labels shows of an object that lost them: the old object deleted, at the version of the change."""
    metadata = {**before["metadata"], "resourceVersion": str(change.version)}
    return replace(change, kind="DELETED", object={**before, "metadata": metadata})


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def matches(item: Json, query: Mapping[str, str]) -> bool:
    """Whether label and field selectors of a query hold."""
    labels = item["metadata"].get("labels") or {}
    for term in filter(None, (query.get("labelSelector") or "").split(",")):
        name, _, value = term.partition("=")
        if name not in labels or (value and labels[name] != value):
            return False
    for term in filter(None, (query.get("fieldSelector") or "").split(",")):
        path, _, value = term.partition("=")
        found: Any = item
        for part in path.split("."):
            found = (found or {}).get(part)
        if found != value:
            return False
    return True


def _owned(item: Json, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences") or ())


def _delete_options(body: Any) -> dict[str, Any]:
    options = body or {}
    return {
        "uid": (options.get("preconditions") or {}).get("uid", ""),
        "foreground": options.get("propagationPolicy") == "Foreground",
    }
