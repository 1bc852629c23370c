"""``kubectl_complete-align``: lets kubectl complete ``kubectl align …``.

kubectl calls an executable of this name with the words typed so far, the last one unfinished, and expects one
candidate a line and a directive at the end. The candidates are those of ``align`` itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from typing import Final

__all__ = ["kubectl"]

_NO_FILES: Final = ":4"
"""kubectl's directive: do not fall back to names of files."""


def kubectl() -> None:
    """Entry point. Silent where nothing is known: a completion must never print an error."""
    words = ["align", *sys.argv[1:]] if len(sys.argv) > 1 else ["align", ""]
    os.environ |= {
        "_ALIGN_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    from alignment_cli.main import app

    found = io.StringIO()
    with contextlib.redirect_stdout(found), contextlib.suppress(SystemExit):
        app(prog_name="align")
    candidates = [line for line in found.getvalue().splitlines() if line]
    sys.stdout.write("".join(f"{line}\n" for line in (*candidates, _NO_FILES)))
