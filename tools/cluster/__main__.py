"""``python -m tools.cluster up|prepare|down``: what the make targets call."""

from __future__ import annotations

import argparse
import sys

from tools.cluster import binaries, prometheus, shell
from tools.cluster.prepare import prepare
from tools.cluster.providers import choose

_HELP = {
    "up": "start a cluster and print how to use it",
    "down": "stop it and leave nothing behind",
    "prepare": "start it with images, S3 server and chart in it, for tests",
}


def main() -> int:
    """Run one verb; 1 with a sentence when it fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in _HELP.items():
        verbs.add_parser(verb, help=text)
    verb = parser.parse_args().verb
    try:
        provider = choose()
        if verb == "down":
            prometheus.stop()
            provider.down()
            return 0
        if verb == "prepare":
            prepare(provider)
            return 0
        kubectl = provider.up()
        print(" ".join(map(str, [kubectl.program, *kubectl.where(), "get", "pods", "-A"])))
    except (shell.Failed, binaries.Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
