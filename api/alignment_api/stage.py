"""The stage contract: what a stage process is asked (StageRequest) and what it answers (StageResult).

A request is self-contained JSON. A result exists only for success and is written last. Its compact form
travels through the container's termination message, which Kubernetes cuts at 4096 bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from alignment_api.base import Digest, StatusModel
from alignment_api.evidence import Evidence, MetricResult
from alignment_api.names import API_VERSION, StageName, run_folder
from alignment_api.spec import AlignmentRunSpec, Decision, PodsSpec, TrainPod
from alignment_api.status import Funnel, Pins, PublishedModel
from alignment_api.verdict import Verdict

__all__ = [
    "PEER_LOST",
    "TERMINATION_MESSAGE_BYTES",
    "ArtifactRef",
    "RunIdentity",
    "StageFailure",
    "StageRequest",
    "StageResult",
    "TrainingSummary",
    "read_termination_message",
]

PEER_LOST: Final = "PeerLost"
"""Reason of a failure that is another's: of several processes, one ended, and this one could not go on without it."""
TERMINATION_MESSAGE_BYTES: Final = 4096
"""Kubernetes' limit for one container's termination message."""
_NEEDED: Final[dict[StageName, tuple[str, ...]]] = {
    StageName.PREPARE: ("pins", "data"),
    StageName.TRAIN: (),
    StageName.EVALUATE: ("evidence",),
    StageName.PUBLISH: ("published",),
}
"""Fields of a result that each stage must set."""
_COMPRESSED_MARK: Final = "z:"
_MESSAGE_LIMITS: Final = ((2048, 2048), (80, 240), (0, 160), (0, 60), (0, 0))
"""Characters kept of the messages of metrics and of evidence, tried in turn until a result fits."""


class ArtifactRef(StatusModel):
    """A folder that a stage wrote, with the digest of its content."""

    uri: str
    digest: Digest


class RunIdentity(StatusModel):
    """Which run this is."""

    name: str
    namespace: str = "default"
    uid: str


class StageRequest(StatusModel):
    """What one stage process is asked to do.

    inputs: outputs of earlier stages by stage name (train gets prepare's; evaluate prepare's and train's;
    publish all three). pins: absent for prepare only, which makes them.
    """

    api_version: Literal["alignment.dev/v1alpha1"] = API_VERSION
    stage: StageName
    run: RunIdentity
    attempt: Annotated[int, Field(ge=1)] = 1
    spec: AlignmentRunSpec
    pins: Pins | None = None
    inputs: dict[StageName, ArtifactRef] = Field(default_factory=dict)
    verdict: Verdict | None = None
    decision: Decision | None = None
    image: str = ""

    def for_process(self) -> StageRequest:
        """What the stage's process is given: of ``spec.pods`` only the number of nodes.

        The rest is for whoever starts the pod. It could outgrow the 256 KiB of a pod's annotations, and an environment
        variable that a person set has no place in the lineage.
        """
        pods = PodsSpec(train=TrainPod(nodes=self.spec.pods.train.nodes))
        return self.model_copy(update={"spec": self.spec.model_copy(update={"pods": pods})})

    @property
    def folder(self) -> str:
        """URI of the run's folder below ``artifacts``; ends with ``/``."""
        return run_folder(self.spec.artifacts.uri, self.run.namespace, self.run.name, self.run.uid)

    @property
    def result_uri(self) -> str:
        """URI of this stage's result."""
        return f"{self.folder}results/{self.stage}.json"

    @property
    def input_digest(self) -> str:
        """sha256 of everything that determines the output: not the attempt, not the image, not pods or limits."""
        wire = self.to_wire()
        for volatile in ("attempt", "image"):
            wire.pop(volatile, None)
        for volatile in (
            "pods",
            "backoffLimit",
            "activeDeadlineSeconds",
            "ttlSecondsAfterFinished",
            "suspend",
        ):
            wire["spec"].pop(volatile, None)
        if wire["spec"]["gate"].pop("decision", None) is not None and self.stage is not StageName.PUBLISH:
            wire.pop("decision", None)
        if wire.get("verdict"):
            wire["verdict"].pop("decidedTime", None)
        return "sha256:" + hashlib.sha256(_canonical(wire)).hexdigest()


class TrainingSummary(StatusModel):
    """What the status tells of a training; ``training.json`` beside the candidate has the rest."""

    steps: Annotated[int, Field(ge=0)] = 0
    pairs: Annotated[int, Field(ge=0)] = 0
    final_loss: float | None = None
    pairs_per_second: float | None = None
    peak_memory_bytes: Annotated[int, Field(ge=0)] | None = None
    engine: str = ""
    adapter: bool = False


class StageResult(StatusModel):
    """What a stage answers on success; only the fields of its own stage are set."""

    api_version: Literal["alignment.dev/v1alpha1"] = API_VERSION
    stage: StageName
    input_digest: Digest
    output: ArtifactRef
    started_time: datetime
    finished_time: datetime
    pins: Pins | None = Field(default=None, description="prepare")
    data: Funnel | None = Field(default=None, description="prepare")
    training: TrainingSummary | None = Field(default=None, description="train")
    metrics: tuple[MetricResult, ...] = Field(default_factory=tuple, max_length=32, description="evaluate")
    evidence: Evidence | None = Field(default=None, description="evaluate")
    headline: Annotated[str, Field(max_length=256)] | None = Field(default=None, description="evaluate")
    published: PublishedModel | None = Field(default=None, description="publish")
    champion_moved: bool = Field(default=False, description="publish: the alias was no longer the pinned one")

    def answers(self, stage: StageName) -> bool:
        """Whether it is a result of this stage and has what the status is made of."""
        return self.stage is stage and all(getattr(self, name) is not None for name in _NEEDED[stage])

    @property
    def digest(self) -> str:
        """sha256 of the result itself."""
        return "sha256:" + hashlib.sha256(_canonical(self.to_wire())).hexdigest()

    def to_termination_message(self) -> str:
        """Compact form of at most 4096 bytes: JSON, compressed where plain JSON is too long, messages cut where that is not enough.

        The whole messages stand in the result and in the report. Numbers are never left out. Raises ValueError when even
        that does not fit; the bounds of the contract make it a defect of ours.
        """
        wire = _rounded(self.to_wire())
        for of_metrics, of_evidence in _MESSAGE_LIMITS:
            shorter = _with_short_messages(wire, of_metrics, of_evidence)
            plain = _canonical(shorter)
            if len(plain) <= TERMINATION_MESSAGE_BYTES:
                return plain.decode()
            packed = _COMPRESSED_MARK + base64.b64encode(zlib.compress(plain, 9)).decode()
            if len(packed) <= TERMINATION_MESSAGE_BYTES:
                return packed
        raise ValueError(
            f"result of stage {self.stage} takes {len(packed)} bytes, {TERMINATION_MESSAGE_BYTES} fit"
        )


class StageFailure(StatusModel):
    """What a stage leaves in the termination log when it fails."""

    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2048)]

    def to_termination_message(self) -> str:
        """JSON that fits the termination log; a message of many non-ASCII characters is cut at its end."""
        message = self.message
        while (
            len(text := _canonical({"message": message, "reason": self.reason})) > TERMINATION_MESSAGE_BYTES
        ):
            message = message[: len(message) * 3 // 4] + "…"
        return text.decode()


@lru_cache(maxsize=256)  # an operator reads the words of all attempts of a run each time it looks at it
def read_termination_message(text: str) -> StageResult | StageFailure | None:
    """What a stage left in its termination log, or None when it left nothing that can be read."""
    try:
        raw = (
            zlib.decompress(base64.b64decode(text[len(_COMPRESSED_MARK) :]))
            if text.startswith(_COMPRESSED_MARK)
            else text
        )
        wire = json.loads(raw)
        return (
            StageResult.model_validate(wire) if "inputDigest" in wire else StageFailure.model_validate(wire)
        )
    except (ValueError, TypeError, RecursionError, zlib.error):
        return None


def _canonical(wire: Any) -> bytes:
    return json.dumps(wire, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _with_short_messages(wire: dict[str, Any], of_metrics: int, of_evidence: int) -> dict[str, Any]:
    short = dict(wire)
    if "metrics" in wire:
        short["metrics"] = [_short_message(item, of_metrics) for item in wire["metrics"]]
    if "evidence" in wire:
        criteria = [_short_message(item, of_evidence) for item in wire["evidence"].get("criteria", [])]
        short["evidence"] = {**wire["evidence"], "criteria": criteria}
    return short


def _short_message(item: dict[str, Any], limit: int) -> dict[str, Any]:
    message = item.get("message")
    if message is None or len(message) <= limit:
        return item
    rest = {key: value for key, value in item.items() if key != "message"}
    return {**rest, "message": message[: limit - 1] + "…"} if limit else rest


def _rounded(value: Any) -> Any:
    """Floats to six significant digits: more than any interval carries, and half the bytes.

    A criterion is what a person wrote, and is compared with the spec: it stays as it is.
    """
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: item if key == "criterion" else _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
