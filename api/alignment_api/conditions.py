"""Condition types and reasons: the words in which a run says where it stands.

Every condition that the product writes takes its reason from :class:`Reason`; every reason has one
sentence in :data:`SENTENCES`, which the documentation lists. Programs compare reasons, never messages.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["SENTENCES", "TERMINAL", "ConditionStatus", "ConditionType", "Reason"]


class ConditionStatus(StrEnum):
    """Kubernetes' three-valued truth."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """States of a run. ``Succeeded`` sums up; the others each follow one step."""

    SUCCEEDED = "Succeeded"
    DATA_READY = "DataReady"
    TRAINED = "Trained"
    EVALUATED = "Evaluated"
    GATE_PASSED = "GatePassed"
    PUBLISHED = "Published"


class Reason(StrEnum):
    """Why a condition has its status."""

    # not yet
    PENDING = "WaitingForEarlierStage"
    QUEUED = "Queued"
    PREPARING = "Preparing"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    PUBLISHING = "Publishing"
    RETRYING = "Retrying"
    SUSPENDED = "Suspended"
    AWAITING_DECISION = "AwaitingDecision"
    NAME_CONFLICT = "NameConflict"
    LAUNCH_REFUSED = "LaunchRefused"
    UNREADABLE = "Unreadable"
    # done
    DONE = "Done"
    COHORTS_CONTRADICT = "CohortsContradict"
    PASSED = "Passed"
    APPROVED = "Approved"
    PUBLISHED = "Published"
    # ended without a release
    GATE_FAILED = "GateFailed"
    GATE_INCONCLUSIVE = "GateInconclusive"
    REJECTED = "Rejected"
    REQUEST_INVALID = "RequestInvalid"
    DATA_INVALID = "DataInvalid"
    TOO_FEW_PAIRS = "TooFewPairs"
    CHAMPION_MOVED = "ChampionMoved"
    STAGE_FAILED = "StageFailed"
    RESULT_LOST = "ResultLost"
    DEADLINE_EXCEEDED = "DeadlineExceeded"


SENTENCES: Final[dict[Reason, str]] = {
    Reason.PENDING: "An earlier stage has not finished; nothing to do but wait.",
    Reason.QUEUED: "The stage's Job exists but no pod of it runs yet; the message gives the scheduler's or the queue's own words.",
    Reason.PREPARING: "Sources are being read, checked, split and frozen into a snapshot.",
    Reason.TRAINING: "The candidate is being trained on the train side of the snapshot.",
    Reason.EVALUATING: "The candidate is being compared with the champion on the holdout.",
    Reason.PUBLISHING: "The candidate is being copied to its version folder.",
    Reason.RETRYING: "An attempt failed and a new one starts after a pause; the message and lastFailure say why.",
    Reason.SUSPENDED: "spec.suspend is true; set it to false to go on from the last checkpoint.",
    Reason.AWAITING_DECISION: "A person must approve or reject: read the report, then set spec.gate.decision (align approve, align reject).",
    Reason.NAME_CONFLICT: "An object that does not belong to this run has the name its child needs; delete or rename that object.",
    Reason.LAUNCH_REFUSED: "The cluster refused to create the stage's Job; the message gives its words. It is tried again.",
    Reason.UNREADABLE: "This version of the operator cannot read the run, which another version has written or let through; the message names the fields. Nothing is started or stopped until operator and resource definition are of one version.",
    Reason.DONE: "The step has finished.",
    Reason.COHORTS_CONTRADICT: "The data is ready, but cohorts that judged the same texts disagree more often than they agree: one model cannot please both.",
    Reason.PASSED: "Every blocking criterion passed.",
    Reason.APPROVED: "A person approved the release; spec.gate.decision says who and why.",
    Reason.PUBLISHED: "The candidate is published and the alias points to it.",
    Reason.GATE_FAILED: "At least one blocking criterion is on the wrong side of its limit; status.verdict lists all of them.",
    Reason.GATE_INCONCLUSIVE: "The evidence does not carry a decision; status.verdict says how many more held-out pairs would.",
    Reason.REJECTED: "A person rejected the release; spec.gate.decision says who and why.",
    Reason.REQUEST_INVALID: "The run cannot be carried out as written; the message names the field or object and the remedy. Clone and correct it.",
    Reason.DATA_INVALID: "The data cannot be used; the message names the most frequent faults with places. Mend the data and clone the run.",
    Reason.TOO_FEW_PAIRS: "Fewer usable pairs than data.minimumPairs; collect more or lower the minimum in a new run.",
    Reason.CHAMPION_MOVED: "The alias was moved by someone else while this run worked: the version is published, the alias is not moved. Compare with the new champion in a new run.",
    Reason.STAGE_FAILED: "A stage failed more often than backoffLimit allows; lastFailure has the reason and message of the last attempt.",
    Reason.RESULT_LOST: "A stage ended well but its result could not be read, again and again; look at the artifacts and the stage's log.",
    Reason.DEADLINE_EXCEEDED: "The stages ran longer than activeDeadlineSeconds; raise it in a new run or make the work smaller.",
}

TERMINAL: Final = frozenset(
    {
        Reason.PUBLISHED,
        Reason.GATE_FAILED,
        Reason.GATE_INCONCLUSIVE,
        Reason.REJECTED,
        Reason.REQUEST_INVALID,
        Reason.DATA_INVALID,
        Reason.TOO_FEW_PAIRS,
        Reason.CHAMPION_MOVED,
        Reason.STAGE_FAILED,
        Reason.RESULT_LOST,
        Reason.DEADLINE_EXCEEDED,
    }
)
"""Reasons of ``Succeeded`` after which a run does nothing more."""
