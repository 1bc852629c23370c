"""``alignment-operator``: reads the settings, connects, runs until told to stop.

Exit codes: 0 told to stop, 1 it cannot go on (Kubernetes starts it anew), 2 a setting is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

__all__ = ["main"]

_log = logging.getLogger("alignment_operator")


def main() -> int:
    """Run the operator and return its exit code."""
    # Under an arbitrary numeric user there is no entry in /etc/passwd to look these up in.
    os.environ.setdefault("USER", "alignment-operator")
    os.environ.setdefault("HOME", "/tmp")  # noqa: S108  nothing is written there
    # Imported late: libraries read the environment when they are loaded.
    from alignment_operator.errors import SettingsError  # noqa: PLC0415
    from alignment_operator.settings import read_settings  # noqa: PLC0415

    try:
        settings = read_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    from alignment_operator.application import Application  # noqa: PLC0415
    from alignment_operator.connection import HttpTransport, login  # noqa: PLC0415

    async def run() -> None:
        async with HttpTransport(login()) as transport:
            await Application(settings, transport).run()

    try:
        asyncio.run(run())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Exception:  # noqa: BLE001  whatever it was, the log has it and the process starts anew
        _log.exception("the operator cannot go on")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
