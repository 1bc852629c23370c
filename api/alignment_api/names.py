"""Fixed names: API group, kinds, stages, labels, and how children of a run are called.

Read by every package; nothing here is decided twice.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "LABEL_ATTEMPT",
    "LABEL_RUN",
    "LABEL_RUN_UID",
    "LABEL_STAGE",
    "MAXIMUM_RUN_NAME",
    "PLURAL",
    "REQUEST_ANNOTATION",
    "SHORT_UID",
    "STAGES",
    "VERSION",
    "StageName",
    "attempt_name",
    "read_attempt_name",
    "run_folder",
    "version_name",
]

GROUP: Final = "alignment.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "alignment.dev/v1alpha1"
KIND: Final = "AlignmentRun"
PLURAL: Final = "alignmentruns"

LABEL_RUN: Final = f"{GROUP}/run"
"""Label on every child: name of its run. The operator watches Jobs and Pods by this label."""
LABEL_RUN_UID: Final = f"{GROUP}/run-uid"
"""Label on every child: UID of its run, so that a run re-created under the same name adopts nothing old."""
LABEL_STAGE: Final = f"{GROUP}/stage"
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
REQUEST_ANNOTATION: Final = f"{GROUP}/stage-request"
"""Pod annotation holding the StageRequest as JSON; the container reads it through the downward API."""

MAXIMUM_RUN_NAME: Final = 40
"""Characters of a run's name. Children append ``-evaluate-99`` and a pod's random suffix within 63."""
SHORT_UID: Final = 8
"""Characters of the UID that make a run's folders unique."""


class StageName(StrEnum):
    """The four stages, in the order in which they run."""

    PREPARE = "prepare"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PUBLISH = "publish"


STAGES: Final = tuple(StageName)


def attempt_name(run: str, stage: StageName, attempt: int) -> str:
    """Name of the Job (or process folder) of one attempt: ``<run>-<stage>-<attempt>``; attempts count from 1."""
    return f"{run}-{stage}-{attempt}"


def read_attempt_name(run: str, name: str) -> tuple[StageName, int] | None:
    """Stage and number of the attempt of this run that has this name; None where it is no attempt's name."""
    stage, _, number = name.removeprefix(f"{run}-").rpartition("-")
    if stage not in STAGES or not number.isdecimal():
        return None
    attempt = StageName(stage), int(number)
    return attempt if attempt[1] >= 1 and attempt_name(run, *attempt) == name else None


def version_name(run: str, uid: str) -> str:
    """Name of a run's published version: ``<run>-<first 8 characters of its UID>``."""
    return f"{run}-{uid[:SHORT_UID]}"


def run_folder(artifacts_uri: str, namespace: str, run: str, uid: str) -> str:
    """URI of the folder that holds everything a run stores; ends with ``/``."""
    return f"{artifacts_uri.rstrip('/')}/runs/{namespace}/{version_name(run, uid)}/"
