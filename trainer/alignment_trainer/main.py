"""``alignment-trainer {prepare|train|evaluate|publish} --request FILE``: one stage, one process, one exit code.

The one place where errors become exit codes. A person sees a sentence; a traceback goes to the log only for
what is a defect of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from alignment_api.exitcodes import ExitFamily, StageExit, family
from alignment_api.names import StageName
from alignment_api.stage import PEER_LOST, StageRequest, StageResult
from alignment_trainer.errors import DataError, RequestError, StageError
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.crew import Crew, read_crew, visible_gpus
from alignment_trainer.runtime.ending import end_without_teardown
from alignment_trainer.runtime.failures import explain
from alignment_trainer.runtime.launcher import die_with_launcher, launch
from alignment_trainer.runtime.progress import PROGRESS_FILE, ProgressReporter
from alignment_trainer.runtime.request import read_request
from alignment_trainer.runtime.results import existing_result, pass_on, say_failure, say_result, store_result
from alignment_trainer.runtime.scratch import open_scratch
from alignment_trainer.runtime.server import serve
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.checkpoints import forget

__all__ = ["main", "program", "run_stage"]

_log = logging.getLogger("alignment_trainer")
_MODULES = {
    StageName.PREPARE: "alignment_trainer.data.stage",
    StageName.TRAIN: "alignment_trainer.training.stage",
    StageName.EVALUATE: "alignment_trainer.evaluation.stage",
    StageName.PUBLISH: "alignment_trainer.publishing.stage",
}


def program() -> NoReturn:
    """The program: run one stage, and end with its exit code."""
    end_without_teardown(main())


def main(arguments: list[str] | None = None) -> int:
    """Run one stage and return its exit code."""
    parser = _Parser(prog="alignment-trainer", description="Run one stage of an alignment run.")
    parser.add_argument("stage", choices=[str(stage) for stage in StageName])
    parser.add_argument("--request", type=Path, required=True, metavar="FILE", help="the stage request, JSON")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    _stay_offline()
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        request = read_request(parsed.request, StageName(parsed.stage))
        crew = read_crew(request, os.environ)
        if crew.size > 1 and crew.local is None:
            return _lead(request, crew, [parsed.stage, "--request", str(parsed.request)], stop)
        result = run_stage(request, stop, crew)
        if crew.leads:
            say_result(result)
    except Exception as error:  # noqa: BLE001  the one place where errors become exit codes
        code = _fail(error)
    else:
        code = StageExit.DONE
    return code


class _Parser(argparse.ArgumentParser):
    """Says a mistyped command in the stage contract's own exit code; argparse's 2 would be tried again."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(StageExit.REQUEST_INVALID, f"{self.prog}: {message}\n")


def run_stage(request: StageRequest, stop: threading.Event, crew: Crew) -> StageResult:
    """Carry out a request, or re-emit the result of an earlier attempt at the same input.

    As one process of several (``crew``), a share of it: the leading one tells progress and stores the result, and the
    scratch folder is left to the launcher.
    """
    stores = Stores(request.spec.storage)
    if crew.local is None:
        earlier = _earlier_result(request, stores, crew)
        if earlier is not None:
            return earlier
    else:
        die_with_launcher()
    if request.stage is StageName.TRAIN:
        crew.check_gpus(visible_gpus())
    file = os.environ.get(PROGRESS_FILE) if crew.leads else None
    reporter = ProgressReporter(request.stage, Path(file) if file else None)
    scratch = open_scratch(request)
    with serve(reporter) if crew.leads else contextlib.nullcontext(0) as port:
        run = f"{request.run.namespace}/{request.run.name}"
        if crew.leads:
            _log.info(
                "stage %s, attempt %d of %s, progress on port %d", request.stage, request.attempt, run, port
            )
        context = StageContext(
            request=request, store=stores, scratch=scratch, progress=reporter, stop=stop, crew=crew
        )
        try:
            result: StageResult = import_module(_MODULES[request.stage]).run(context)
        except (RequestError, DataError):
            if crew.local is None:
                shutil.rmtree(
                    scratch, ignore_errors=True
                )  # the run ends with these: nobody comes back for it
            raise
    if crew.leads:
        store_result(request, result, stores(request.result_uri))
        _forget(request, stores)
    if crew.local is None:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _lead(request: StageRequest, crew: Crew, arguments: list[str], stop: threading.Event) -> int:
    """As PID 1 of a node with several processes: start them, and pass on how they ended."""
    earlier = _earlier_result(request, Stores(request.spec.storage), crew)
    if earlier is not None:
        if crew.leads:
            say_result(earlier)
        return StageExit.DONE
    scratch = open_scratch(request)
    ended = launch(arguments, crew, scratch, stop)
    if family(ended.code) in (ExitFamily.DONE, ExitFamily.FINAL):
        shutil.rmtree(scratch, ignore_errors=True)
    if isinstance(ended.word, StageError):
        _log.error("%s: %s", ended.word.reason, ended.word.message)
        say_failure(ended.word)
    elif ended.word is not None:
        pass_on(ended.word)
    return ended.code


def _earlier_result(request: StageRequest, stores: Stores, crew: Crew) -> StageResult | None:
    """The result of an earlier attempt at the same input, or None. That attempt may have been killed right after it."""
    earlier = existing_result(request, stores(request.result_uri))
    if earlier is not None:
        _log.info("stage %s has a result for this input: %s", request.stage, request.result_uri)
        if crew.leads:
            _forget(request, stores)
    return earlier


def _forget(request: StageRequest, stores: Stores) -> None:
    """Remove the checkpoints of a training whose result is stored; what cannot be removed goes with the run's folder."""
    if request.stage is StageName.TRAIN:
        try:
            forget(request, stores)
        except StageError as error:
            _log.warning("checkpoints were left: %s", error.message)


def _fail(error: Exception) -> int:
    explained = explain(error)
    # A person's mistake is a sentence; only what we do not understand comes with a traceback, and only in the log. A peer
    # that was lost is one of torch's errors, and whether that is all of it, they alone say.
    traceback = error if explained.exit_code == 1 or explained.reason == PEER_LOST else None
    _log.error("%s: %s", explained.reason, explained.message, exc_info=traceback)
    try:
        say_failure(explained)
    except OSError as second:
        _log.warning("the failure could not be left in the termination log: %s", second)
    return explained.exit_code


def _stop_on_signals(stop: threading.Event) -> None:
    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)


def _stay_offline() -> None:
    """No telemetry and no hub, before any library reads its settings; hf:// URIs lift the second for one download."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = (
        "1"  # bars of libraries tear a log; the stage has progress of its own
    )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if __name__ == "__main__":
    program()
