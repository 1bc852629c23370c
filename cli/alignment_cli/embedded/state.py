"""The state folder: runs and their attempts as files, written atomically, one writer at a time.

Layout::

    <state>/runs/<name>/run.json              the resource with its status
    <state>/runs/<name>/lock                  held by the `align run` that works on it
    <state>/runs/<name>/writing               held for the moment of a change of run.json
    <state>/runs/<name>/attempts/<attempt>/   request.json · process.json · exit.json · progress.json
                                              termination.log · output.log

Read by every command that speaks of an embedded run; written by the executor, and by the commands that
change a spec (approve, suspend, …). Holds no data of the run but what its status holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from alignment_api.names import StageName, attempt_name
from alignment_api.run import AlignmentRun, transition_errors
from alignment_api.stage import StageRequest
from alignment_api.status import AlignmentRunStatus
from alignment_cli.errors import CommandError
from alignment_cli.manifests import invalid, parse_manifest

__all__ = ["AttemptFolder", "State", "write_atomically"]


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class AttemptFolder:
    """Files of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.request = path / "request.json"
        self.process = path / "process.json"
        self.exit = path / "exit.json"
        self.progress = path / "progress.json"
        self.termination = path / "termination.log"
        self.output = path / "output.log"

    @property
    def name(self) -> str:
        """Name of the attempt."""
        return self.path.name

    def read(self, file: Path) -> dict[str, Any] | None:
        """A JSON file of the attempt, or None when it is absent or half written by a killed process."""
        try:
            wire = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return wire if isinstance(wire, dict) else None

    def read_request(self) -> StageRequest | None:
        """What the attempt was asked to do. Raises CommandError when another version of the product wrote it."""
        wire = self.read(self.request)
        try:
            return StageRequest.model_validate(wire) if wire is not None else None
        except ValidationError:
            raise CommandError(
                f"{self.request} was written by another version of align; go on with that one, or delete the run "
                "(align delete) and start it anew."
            ) from None


class State:
    """All embedded runs below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Names of all runs, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("runs/*/run.json"))

    def run_folder(self, name: str) -> Path:
        """Folder of one run."""
        return self.folder / "runs" / name

    def load(self, name: str) -> AlignmentRun:
        """A run by name. Raises CommandError when there is none."""
        path = self.run_folder(name) / "run.json"
        try:
            return AlignmentRun.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(self.names()) or "none"
            raise CommandError(
                f"There is no run {name} in {self.folder} (runs there: {known}); name one of them, or give --state."
            ) from None
        except ValidationError as error:
            raise invalid(
                f"{path} is not a run that this version of align can read; restore it, go on with the version that "
                "wrote it, or delete the run's folder",
                error,
            ) from None
        except UnicodeDecodeError:
            raise CommandError(f"{path} is damaged; restore it, or delete the run's folder.") from None

    def create(self, wanted: AlignmentRun) -> AlignmentRun:
        """Store a new run with an identity of its own. Raises CommandError when the name is taken by another spec.

        The same spec again is the same run: that is how an interrupted run goes on.
        """
        name = wanted.metadata.name
        with self._changing(name):
            if (self.run_folder(name) / "run.json").exists():
                present = self.load(name)
                self._require_same(present, wanted)
                return present
            metadata = wanted.metadata.model_copy(
                update={"uid": str(uuid.uuid4()), "generation": 1, "creation_timestamp": datetime.now(UTC)}
            )
            run = wanted.model_copy(update={"metadata": metadata, "status": AlignmentRunStatus()})
            if errors := transition_errors(run, None):
                raise CommandError(errors[0])
            self._save(run)
        return run

    def _require_same(self, present: AlignmentRun, wanted: AlignmentRun) -> None:
        """Refuse a manifest that says something else; what the verbs change since then (suspend, decision) is theirs."""
        kept = present.spec.gate.decision
        if wanted.spec.gate.decision not in (None, kept):
            raise CommandError(
                f"Run {present.metadata.name} exists in {self.folder}; decide with align approve or align reject."
            )
        gate = wanted.spec.gate.model_copy(update={"decision": kept})
        same = {
            "suspend": present.spec.suspend,
            "ttl_seconds_after_finished": present.spec.ttl_seconds_after_finished,
        }
        spec = wanted.spec.model_copy(update={"gate": gate, **same})
        differing = [
            to_camel(field)
            for field in type(spec).model_fields
            if getattr(spec, field) != getattr(present.spec, field)
        ]
        if differing:
            raise CommandError(
                f"Run {present.metadata.name} exists in {self.folder} with another spec.{', spec.'.join(differing)}, and a "
                "run's spec does not change; give the new run another metadata.name (align clone), or delete the old "
                "one (align delete)."
            )

    def save_status(self, run: AlignmentRun, status: AlignmentRunStatus) -> AlignmentRun:
        """Write a status on top of the newest spec, which another command may have changed meanwhile."""
        with self._changing(run.metadata.name):
            saved = self.load(run.metadata.name).model_copy(update={"status": status})
            self._save(saved)
        return saved

    def change_spec(self, name: str, **changes: Any) -> AlignmentRun:
        """Change what may change (suspend, gate.decision given as ``decision``), under the contract's own rules."""
        with self._changing(name):
            old = self.load(name)
            wire = old.to_wire()
            if "decision" in changes:
                wire["spec"]["gate"]["decision"] = changes.pop("decision")
            wire["spec"].update(changes)
            wire["metadata"]["generation"] = old.metadata.generation + 1
            new = parse_manifest(wire, f"Run {name} so changed")
            if errors := transition_errors(new, old):
                raise CommandError(errors[0])
            self._save(new)
        return new

    def forget(self, name: str) -> None:
        """Delete a run's folder, which the caller holds (:meth:`exclusively`); its artifacts stay."""
        shutil.rmtree(self.run_folder(name))

    def attempts(self, name: str) -> list[AttemptFolder]:
        """Folders of a run's attempts, in no particular order."""
        return [
            AttemptFolder(path)
            for path in sorted((self.run_folder(name) / "attempts").glob("*"))
            if path.is_dir()
        ]

    def attempt(self, run: str, stage: StageName, number: int) -> AttemptFolder:
        """Folder of one attempt, existing or not."""
        return AttemptFolder(self.run_folder(run) / "attempts" / attempt_name(run, stage, number))

    @contextmanager
    def exclusively(self, name: str) -> Iterator[None]:
        """Hold a run for this process. Raises CommandError at once when another process works on it."""
        path = self.run_folder(name) / "lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(
                    f"Another align process works on run {name} in {self.folder}; wait for it, or watch it with align status."
                ) from None
            yield

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Between reading a run and writing it back, nobody else writes: held for a moment, waited for."""
        path = self.run_folder(name) / "writing"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _save(self, run: AlignmentRun) -> None:
        path = self.run_folder(run.metadata.name) / "run.json"
        write_atomically(path, json.dumps(run.to_wire(), indent=2, ensure_ascii=False) + "\n")
