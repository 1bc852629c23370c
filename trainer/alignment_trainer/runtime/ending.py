"""How a stage's process ends: at once, all it had to say being said and stored."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

__all__ = ["end_without_teardown"]


def end_without_teardown(code: int) -> NoReturn:
    """End this process with ``code``, without taking the interpreter and the libraries apart.

    That takes two to four seconds where TRL is loaded, in which a GPU is held for nothing. And of several processes that
    train together, a thread of the backend (gloo, NCCL) that lets go of a Python object meanwhile aborts its own: C++
    calls the end of such a thread an exception that nobody caught. A training that is done would be reported as 134.
    """
    try:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            # Nobody listens any more, or it was closed, or there never was one; what counts is stored.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        os._exit(code)
