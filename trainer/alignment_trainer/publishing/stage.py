"""Stage publish: candidate → version folder → alias.

Called by :mod:`alignment_trainer.main` once the gate let the run pass. Writes ``<publish>/versions/<version>/``,
last its ``SHA256SUMS``, then moves ``<publish>/aliases/<alias>`` if it still is what prepare pinned. Never
changes a version that is complete, never moves an alias that someone else moved.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from alignment_api.names import StageName, version_name
from alignment_api.spec import DecisionResult
from alignment_api.stage import ArtifactRef, StageRequest, StageResult
from alignment_api.status import PublishedModel
from alignment_api.verdict import Result
from alignment_trainer.errors import RequestError, StageError
from alignment_trainer.models.aliases import (
    Alias,
    AliasTarget,
    alias_uri,
    read_alias,
    swap_alias,
    version_folder,
)
from alignment_trainer.publishing.documents import documents
from alignment_trainer.publishing.lineage import Lineage, read_lineage
from alignment_trainer.publishing.retention import collect_expired
from alignment_trainer.publishing.version import write_version
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.runtime.inputs import require_unchanged
from alignment_trainer.storage.probe import require_conditional_puts
from alignment_trainer.storage.store import ConditionFailed

__all__ = ["run"]

_log = logging.getLogger(__name__)


def run(context: StageContext) -> StageResult:
    """Publish the candidate. May be killed at any moment and started again."""
    started = datetime.now(UTC)
    request = context.request
    _require_release(request)
    publish = request.spec.publish
    require_conditional_puts(context.store(publish.uri), publish.uri)
    lineage = read_lineage(context)
    version = version_name(request.run.name, request.run.uid)
    folder = version_folder(publish.uri, version)
    released = _released(context, version)
    if not released:
        require_unchanged(context, StageName.PREPARE, StageName.EVALUATE)
    digest = write_version(context, folder, documents(lineage, context))
    if not released:  # copying takes as long as the model is large
        require_unchanged(context, StageName.PREPARE, StageName.EVALUATE)
    target = AliasTarget(uri=folder, version=version, digest=digest)
    moved = _move_alias(context, target, lineage)
    _collect(context)
    return StageResult(
        stage=StageName.PUBLISH,
        input_digest=request.input_digest,
        output=ArtifactRef(uri=folder, digest=digest),
        started_time=started,
        finished_time=datetime.now(UTC),
        published=PublishedModel(
            uri=folder,
            version=version,
            digest=digest,
            alias=alias_uri(publish.uri, publish.alias) if moved else None,
        ),
        champion_moved=not moved,
    )


def _require_release(request: StageRequest) -> None:
    """The executor asks only after the gate; a request that says otherwise is refused all the same."""
    verdict, decision = request.verdict, request.decision
    missing = [s for s in (StageName.PREPARE, StageName.TRAIN, StageName.EVALUATE) if s not in request.inputs]
    if verdict is None or request.pins is None or missing:
        raise RequestError(
            f"The request of {request.run.namespace}/{request.run.name} lacks verdict, pins or inputs {missing}; "
            "publish runs after evaluate, started by the operator or by align run."
        )
    approved = decision is not None and decision.result is DecisionResult.APPROVE
    rejected = decision is not None and decision.result is DecisionResult.REJECT
    if (
        verdict.result is Result.FAILED
        or rejected
        or (verdict.result is Result.INCONCLUSIVE and not approved)
    ):
        raise RequestError(
            f"{request.run.namespace}/{request.run.name} is not released: the verdict is {verdict.result}"
            f"{' and the decision is Reject' if rejected else ''}. Nothing was published.",
            reason="NotReleased",
        )


def _released(context: StageContext, version: str) -> bool:
    """True when an attempt that was killed moved the alias: only the result is left to be stored, whatever was erased since."""
    publish = context.request.spec.publish
    uri = alias_uri(publish.uri, publish.alias)
    alias = read_alias(uri, context.store(uri))
    return alias is not None and alias[0].target.version == version


def _move_alias(context: StageContext, target: AliasTarget, lineage: Lineage) -> bool:
    """True when the alias points to our version, moved now or by an earlier attempt that was killed."""
    request = context.request
    assert request.pins is not None  # noqa: S101  checked by _require_release
    uri = alias_uri(request.spec.publish.uri, request.spec.publish.alias)
    store = context.store(uri)
    present = read_alias(uri, store)
    if present is not None and present[0].target == target:
        return True
    wanted = Alias(
        target=target,
        previous=present[0].target if present else None,
        run=request.run,
        moved_by=lineage.decided_by,
        moved_time=datetime.now(UTC),
    )
    try:
        swap_alias(uri, wanted, store, expected=request.pins.alias_etag)
    except ConditionFailed:
        _log.warning("ChampionMoved: %s is no longer what prepare pinned; it was left alone", uri)
        return False
    return True


def _collect(context: StageContext) -> None:
    """Housekeeping: what goes wrong here is for the next run, never a reason to take back a release."""
    artifacts = context.request.spec.artifacts
    try:
        deleted = collect_expired(
            artifacts.uri,
            context.store,
            now=datetime.now(UTC),
            keep=(context.request.folder,),
        )
    except StageError as error:
        _log.warning("expired runs below %s were not deleted: %s", artifacts.uri, error.message)
        return
    for folder in deleted:
        _log.info("deleted %s: older than its retentionDays", folder)
