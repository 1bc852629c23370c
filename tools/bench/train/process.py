"""Runs a measurement in a process of its own, so that its peak of memory is its own.

Processes are forked from a server that has done nothing but the imports: those are waited for once.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

__all__ = ["in_own_process"]


def in_own_process(target: Callable[..., None], *arguments: Any) -> None:
    """Call ``target(*arguments)``, a function of a module. Raises SystemExit when it fails; its traceback is printed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([target.__module__])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{target.__module__} ended with {process.exitcode}")
