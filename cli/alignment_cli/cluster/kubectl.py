"""Calls of the ``kubectl`` binary, and what it means when one is refused. Nothing here knows what a run is.

The binary brings the person's contexts, credentials and plug-ins, and it is there wherever ``kubectl align`` is.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Final

from alignment_api.exitcodes import AlignExit
from alignment_cli.backend import DEFAULT_STATE, by_kubectl
from alignment_cli.errors import CommandError, Unreachable

__all__ = ["Kubectl"]

_LOG_LINE = re.compile(r"[EWI]\d{4} \d{2}:\d{2}:\d{2}\.\d+ ")
_NO_CONTEXT: Final = "current-context must exist"
_NOBODY_ANSWERS: Final = ("The connection to the server", "Unable to connect to the server")
_NOT_NOW = re.compile(
    r"Error from server(: | \((ServiceUnavailable|InternalError|Timeout|ServerTimeout|TooManyRequests)\))"
    r"|context deadline exceeded|connection (reset|lost)|i/o timeout|\bEOF\b"
)
"""Answers of a server that starts, is upgraded or has too much to do, and connections that broke. A refusal that
will be the same next time (Forbidden, Invalid, NotFound) has its reason in the brackets, so the first form is a 5xx."""
_NOT_FOUND: Final = "Error from server (NotFound)"


class Kubectl:
    """The binary, with a namespace and a context; None: kubectl's own."""

    def __init__(self, namespace: str | None, context: str | None) -> None:
        self._options = [f"--namespace={namespace}"] if namespace else []
        self._options += [f"--context={context}"] if context else []
        self._context = context

    def __call__(self, *arguments: str) -> str:
        """What a call prints. Raises CommandError when it is refused, Unreachable where it may not be the next time."""
        try:
            done = subprocess.run(
                ["kubectl", *self._options, *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise CommandError(
                "There is no kubectl on the PATH; install it for runs on a cluster, or give --state DIR for runs of "
                "this machine."
            ) from None
        if done.returncode != 0:
            raise self._refusal(done.stderr)
        return done.stdout

    def lines(self, *arguments: str) -> Iterator[str]:
        """The lines of a call as they come. Raises CommandError after the last one when it failed."""
        command = ["kubectl", *self._options, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None  # noqa: S101,PT018  asked for above
            for line in process.stdout:
                yield line.rstrip("\n")
            trouble = process.stderr.read()
        if process.returncode:
            raise self._refusal(trouble)

    def align(self, *words: str) -> str:
        """The command line of ``kubectl align`` that means the same namespace and context."""
        return shlex.join(["kubectl", "align", *words, *self._options])

    def context(self) -> str:
        """Name of the context; empty in a pod, which knows one cluster and gives it no name."""
        try:
            return self._context or self("config", "current-context").strip()
        except CommandError:
            return ""

    def _refusal(self, words: str) -> CommandError:
        """What kubectl said, without the log lines of its library, which repeat one trouble many times."""
        lines = [line for line in words.strip().splitlines() if not _LOG_LINE.match(line)]
        said = "\n".join(lines) or words.strip() or "kubectl failed without a word"
        if _NOT_FOUND in said:
            return CommandError(f"{said}; {self.align('list')} shows what there is.")
        if any(beginning in said for beginning in _NOBODY_ANSWERS):
            return Unreachable(self._no_cluster(said))
        if _NO_CONTEXT in said:
            return CommandError(self._no_cluster(said), exit_code=AlignExit.OTHER)
        return Unreachable(said) if _NOT_NOW.search(said) else CommandError(said, exit_code=AlignExit.OTHER)

    def _no_cluster(self, said: str) -> str:
        meant = bool(self._options) or by_kubectl()
        where = "" if meant else f" There is no {DEFAULT_STATE} here; --state DIR names runs of this machine."
        return f"No cluster answers: {said}{where}"
