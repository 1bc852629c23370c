"""Where a version comes from: run, spec, pins, data, candidate, evidence, decision, code."""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Literal

from alignment_api.base import StatusModel
from alignment_api.names import API_VERSION, StageName
from alignment_api.spec import AlignmentRunSpec, Decision
from alignment_api.stage import ArtifactRef, RunIdentity, StageResult
from alignment_api.status import Pins
from alignment_api.verdict import Verdict
from alignment_trainer.errors import RequestError
from alignment_trainer.models.folder import BASE, BaseRef, parse_base
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris

__all__ = ["Lineage", "read_lineage"]


class Lineage(StatusModel):
    """Content of ``lineage.json``. Made from the request and from results alone, so that each attempt writes the same.

    results: of prepare, train and evaluate, as they were written. base: of an adapter.
    """

    api_version: Literal["alignment.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelLineage"] = "ModelLineage"
    run: RunIdentity
    spec: AlignmentRunSpec
    pins: Pins
    inputs: dict[StageName, ArtifactRef]
    results: dict[StageName, StageResult]
    verdict: Verdict
    decision: Decision | None = None
    base: BaseRef | None = None
    code_version: str
    image: str = ""

    @property
    def decided_by(self) -> str:
        """Who released it: a person, or the gate."""
        return self.decision.by if self.decision is not None else "gate (automatic)"


def read_lineage(context: StageContext) -> Lineage:
    """Gather it. Raises RequestError when an earlier stage's result is gone."""
    request = context.request
    assert request.pins is not None  # noqa: S101  checked by the stage before
    assert request.verdict is not None  # noqa: S101
    candidate = request.inputs[StageName.TRAIN]
    base_uri = uris.join(candidate.uri, BASE)
    store = context.store(base_uri)
    base = parse_base(store.get(base_uri)[0], base_uri) if store.stat(base_uri) is not None else None
    return Lineage(
        run=request.run,
        spec=request.spec,
        pins=request.pins,
        inputs=request.inputs,
        results={stage: _result(context, stage) for stage in request.inputs},
        verdict=request.verdict,
        decision=request.decision,
        base=base,
        code_version=distribution_version("alignment-operator"),
        image=request.image,
    )


def _result(context: StageContext, stage: StageName) -> StageResult:
    uri = f"{context.request.folder}results/{stage}.json"
    store = context.store(uri)
    if store.stat(uri) is None:
        raise RequestError(
            f"{uri} is gone; without it the version's lineage cannot be written. Clone the run.",
            reason="ArtifactMissing",
        )
    return StageResult.model_validate_json(store.get(uri)[0])
