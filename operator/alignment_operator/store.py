"""What the operator knows of the cluster: trimmed records of runs, Jobs and pods, never newer than it claims.

Fed by watches, by complete listings and by the answers to our own writes, in any order: an older version never
replaces a newer one, and an object seen deleted never comes back (a uid is never used again), unless a live reading
finds it: a watch by labels shows a Job that lost its labels as deleted. Children of a run that has finished are
forgotten, so that thousands of finished runs cost little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from alignment_operator.queue import Key
from alignment_operator.records import Identity, JobRecord, PodRecord, RunRecord, version_number

__all__ = ["Store"]

_Record = TypeVar("_Record", RunRecord, JobRecord, PodRecord)
_REMEMBERED_DEATHS = 20_000


class Store:
    """Runs by key, Jobs and pods by the run they belong to. Every change returns the run it concerns, or None."""

    def __init__(self) -> None:
        self._runs: dict[Key, RunRecord] = {}
        self._jobs: dict[Key, JobRecord] = {}
        self._pods: dict[Key, PodRecord] = {}
        self._jobs_of: defaultdict[Identity, set[Key]] = defaultdict(set)
        self._pods_of: defaultdict[Identity, set[Key]] = defaultdict(set)
        self._dead: dict[str, int] = {}
        """By uid, the version at which each was last seen."""

    # -- reading ------------------------------------------------------------------------------------

    def run(self, key: Key) -> RunRecord | None:
        """A run, if it is there."""
        return self._runs.get(key)

    def runs(self) -> Iterator[RunRecord]:
        """All runs, as they are now."""
        return iter(tuple(self._runs.values()))

    def jobs(self, run: Identity) -> tuple[JobRecord, ...]:
        """Jobs of a run, by name."""
        return tuple(self._jobs[key] for key in sorted(self._jobs_of.get(run, ())))

    def pods(self, run: Identity) -> tuple[PodRecord, ...]:
        """Pods of a run, by name."""
        return tuple(self._pods[key] for key in sorted(self._pods_of.get(run, ())))

    def running_pods(self) -> Iterator[PodRecord]:
        """Pods that run now, wherever."""
        return iter([p for p in self._pods.values() if p.phase == "Running" and p.ended is None and p.ip])

    # -- writing ------------------------------------------------------------------------------------

    def put_run(self, record: RunRecord) -> Key | None:
        """Take in a run; its key if that told anything new."""
        if not self._newer(self._runs.get(record.key), record):
            return None
        self._runs[record.key] = record
        if record.finished:
            self._forget_ended(record.identity)
        return record.key

    def put_job(self, record: JobRecord) -> Key | None:
        """Take in a Job; the key of its run if that told anything that a decision reads.

        One that is nobody's (any more) is not kept: the key of the run that it was an attempt of.
        """
        before = self._jobs.get(record.key)
        if not self._newer(before, record):
            return None
        self.drop_job(record.key)
        if not record.run_uid:
            if before is None:
                return None
            self._forget_gone(before)
            return before.run
        if record.suspended:
            self._forget_gone(record)  # its pods were stopped on purpose: how they ended says nothing
        if record.over and self._is_finished(record.owner):
            return None
        self._jobs[record.key] = record
        self._jobs_of[record.owner].add(record.key)
        return record.run if before is None or _differs(before, record) else None

    def found_job(self, record: JobRecord) -> None:
        """Take in a Job as a live reading found it, though it was seen deleted, if the reading is not older than that."""
        if version_number(record.version) >= self._dead.get(record.uid, 0):
            self._dead.pop(record.uid, None)
        self.put_job(record)

    def put_pod(self, record: PodRecord) -> Key | None:
        """Take in a pod; the key of its run if that told anything that a decision reads."""
        before = self._pods.get(record.key)
        if not record.run_uid or not self._newer(before, record):
            return None
        self._drop_pod(record.key)
        if self._is_finished(record.owner):
            return None
        self._pods[record.key] = record
        self._pods_of[record.owner].add(record.key)
        return record.run if before is None or _differs(before, record) else None

    def drop_run(self, key: Key) -> None:
        """Forget a run that a reading did not find. Should it be there after all, it comes back with the next news."""
        self._runs.pop(key, None)

    def drop_job(self, key: Key) -> None:
        """As :meth:`drop_run`, for a Job."""
        known = self._jobs.pop(key, None)
        if known is not None:
            _discard(self._jobs_of, known.owner, key)

    def delete_run(self, key: Key, uid: str) -> Key | None:
        """A run is gone; its key if it was known."""
        known = self._runs.get(key)
        self._bury(uid, known)
        if known is None or known.uid != uid:
            return None
        del self._runs[key]
        return key

    def delete_job(self, key: Key, uid: str) -> Key | None:
        """A Job is gone; the key of its run if it was known."""
        known = self._jobs.get(key)
        self._bury(uid, known)
        if known is None or known.uid != uid:
            return None
        self.drop_job(key)
        self._forget_gone(known)
        return known.run

    def delete_pod(self, key: Key, uid: str) -> Key | None:
        """A pod is gone; the key of its run if it was known.

        A pod that was deleted is often gone before its Job says that it failed: its last word is kept until then.
        """
        known = self._pods.get(key)
        self._bury(uid, known)
        if known is None or known.uid != uid or known.gone:
            return None
        if known.exit_code is not None and self._is_awaited(known):
            self._pods[key] = replace(known, gone=True)
        else:
            self._drop_pod(key)
        return known.run

    def prune_runs(self, listed: set[str], version: str, namespace: str | None) -> list[Key]:
        """Remove runs that a complete listing at ``version`` no longer has; the keys of those removed."""
        gone = _absent(self._runs.values(), listed, version, namespace)
        return [key for r in gone if (key := self.delete_run(r.key, r.uid)) is not None]

    def prune_jobs(self, listed: set[str], version: str, namespace: str | None) -> list[Key]:
        """As :meth:`prune_runs`, for Jobs; the keys of their runs."""
        gone = _absent(self._jobs.values(), listed, version, namespace)
        return [key for r in gone if (key := self.delete_job(r.key, r.uid)) is not None]

    def prune_pods(self, listed: set[str], version: str, namespace: str | None) -> list[Key]:
        """As :meth:`prune_runs`, for pods; the keys of their runs."""
        gone = _absent(self._pods.values(), listed, version, namespace)
        return [key for r in gone if (key := self.delete_pod(r.key, r.uid)) is not None]

    # -- inside -------------------------------------------------------------------------------------

    def _newer(self, known: _Record | None, record: _Record) -> bool:
        if record.uid in self._dead:
            return False
        return known is None or version_number(record.version) > version_number(known.version)

    def _is_finished(self, identity: Identity) -> bool:
        run = self._runs.get(identity[0])
        return run is not None and run.identity == identity and run.finished

    def _is_awaited(self, pod: PodRecord) -> bool:
        """Whether the pod's Job may still have to be told how it ended."""
        jobs = (self._jobs[key] for key in self._jobs_of.get(pod.owner, ()))
        return any(job.uid == pod.job_uid and not job.suspended for job in jobs)

    def _forget_gone(self, job: JobRecord) -> None:
        for pod in self.pods(job.owner):
            if pod.gone and pod.job_uid == job.uid:
                self._drop_pod(pod.key)

    def _forget_ended(self, run: Identity) -> None:
        for key in tuple(self._jobs_of.get(run, ())):
            if self._jobs[key].over:
                self.drop_job(key)
        for key in tuple(self._pods_of.get(run, ())):
            self._drop_pod(key)

    def _drop_pod(self, key: Key) -> None:
        known = self._pods.pop(key, None)
        if known is not None:
            _discard(self._pods_of, known.owner, key)

    def _bury(self, uid: str, known: RunRecord | JobRecord | PodRecord | None) -> None:
        # A deletion is put in before it is carried out, so that what is known has the version of the deletion.
        self._dead[uid] = version_number(known.version) if known is not None and known.uid == uid else 0
        if len(self._dead) > _REMEMBERED_DEATHS:
            del self._dead[next(iter(self._dead))]


def _absent(known: Iterable[_Record], listed: set[str], version: str, namespace: str | None) -> list[_Record]:
    """Records that a listing lacks, those written after it left out."""
    limit = version_number(version)
    return [
        r
        for r in known
        if r.uid not in listed
        and version_number(r.version) <= limit
        and (namespace is None or r.key.namespace == namespace)
    ]


def _differs(before: JobRecord | PodRecord, after: JobRecord | PodRecord) -> bool:
    """True when more than the version changed: controllers write much that says nothing new to us."""
    return replace(before, version=after.version) != after


def _discard(index: defaultdict[Identity, set[Key]], run: Identity, key: Key) -> None:
    keys = index.get(run)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[run]
