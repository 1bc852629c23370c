"""Runs in a state folder, behind the verbs that both kinds of runs share."""

from __future__ import annotations

import getpass
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignment_api.names import STAGES, StageName
from alignment_api.run import AlignmentRun
from alignment_cli.backend import DEFAULT_STATE, readable
from alignment_cli.embedded.process import alive, stop
from alignment_cli.embedded.state import AttemptFolder, State
from alignment_cli.errors import CommandError
from alignment_trainer.runtime.scratch import remove_scratch

__all__ = ["EmbeddedBackend"]

_FOLLOW_SECONDS = 0.2


class EmbeddedBackend:
    """See :class:`alignment_cli.backend.Backend`."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self._state = State(folder)

    def names(self) -> list[str]:
        """See Backend."""
        return self._state.names()

    def list(
        self,
        *,
        everywhere: bool = False,  # noqa: ARG002  a folder has no namespaces
    ) -> tuple[list[AlignmentRun], list[CommandError]]:
        """See Backend."""
        runs, refusals = readable(self._state.load, self._state.names())
        return sorted(runs, key=lambda run: str(run.metadata.creation_timestamp)), refusals

    def get(self, name: str) -> AlignmentRun:
        """See Backend."""
        return self._state.load(name)

    def change(self, name: str, **changes: Any) -> AlignmentRun:
        """See Backend. A run that is being worked on sees the change at its next look."""
        return self._state.change_spec(name, **changes)

    def delete(
        self,
        name: str,
        *,
        settled: bool = False,  # noqa: ARG002  stages end before their folder goes
    ) -> None:
        """See Backend."""
        run = self._state.load(name)
        with self._state.exclusively(name):
            for folder in self._state.attempts(name):
                stop(folder)
            self._state.forget(name)
        remove_scratch(run.metadata.uid)

    def logs(self, name: str, stage: StageName | None, *, follow: bool, node: int = 0) -> Iterator[str]:
        """See Backend."""
        self._state.load(name)
        if node:
            raise CommandError("A run on this machine has one node; leave --node out.")
        folder = self._newest(name, stage)
        with folder.output.open(encoding="utf-8", errors="replace") as file:
            while True:
                line = file.readline()
                if line:
                    yield line.rstrip("\n")
                elif follow and alive(folder):
                    time.sleep(_FOLLOW_SECONDS)  # a file has no event to wait for that works everywhere
                else:
                    return

    def user(self) -> str:
        """See Backend."""
        return getpass.getuser()

    def going_on(self, name: str) -> str:
        """See Backend."""
        return f"It goes on with {self.command('run', name)}."

    def command(self, *words: str) -> str:
        """See Backend."""
        state = [] if self._state.folder == DEFAULT_STATE else ["--state", str(self._state.folder)]
        return shlex.join(["align", *words, *state])

    def place(self, run: AlignmentRun) -> str:  # noqa: ARG002  all runs of a folder are in it
        """See Backend."""
        return f"state folder {self._state.folder.absolute()}"

    def _newest(self, name: str, stage: StageName | None) -> AttemptFolder:
        order = {str(known): index for index, known in enumerate(STAGES)}
        found = []
        for folder in self._state.attempts(name):
            request = folder.read_request()
            if request is not None and folder.output.exists() and stage in (None, request.stage):
                found.append(((order[request.stage], request.attempt), folder))
        if not found:
            what = f"stage {stage} of run {name}" if stage else f"run {name}"
            raise CommandError(f"There is no log of {what} yet; see {self.command('status', name)}.")
        return max(found, key=lambda pair: pair[0])[1]
