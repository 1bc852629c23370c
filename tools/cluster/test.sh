#!/usr/bin/env bash
# Prepares a cluster, runs the given command, and takes the cluster down whatever happens.
set -uo pipefail
trap '.venv/bin/python -m tools.cluster down' EXIT
.venv/bin/python -m tools.cluster prepare || exit 1
"$@"
