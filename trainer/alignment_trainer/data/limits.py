"""When the data does not do: too many invalid rows, too few pairs, an empty side. Each ends the run with exit code 65."""

from __future__ import annotations

from alignment_api.spec import DataSpec
from alignment_api.status import Funnel
from alignment_trainer.data.accounting import Account
from alignment_trainer.errors import DataError

__all__ = ["refuse_too_few", "refuse_too_many_invalid"]


def refuse_too_many_invalid(account: Account, spec: DataSpec) -> None:
    """End the run when too many rows cannot be read. Raises DataError with the most frequent faults and places."""
    invalid, limit = account.invalid.total(), spec.maximum_invalid_fraction
    if account.rows == 0:
        raise DataError("The sources hold no rows at all; check spec.data.sources.", reason="SourceEmpty")
    if invalid > limit * account.rows:
        raise DataError(
            f"{invalid} of {account.rows} rows are invalid, more than maximumInvalidFraction {limit:g} allows: "
            f"{account.worst()}. Mend them (align data check --quarantine FILE lists all), or raise the limit in a new run.",
            reason="TooManyInvalid",
        )


def refuse_too_few(funnel: Funnel, spec: DataSpec) -> None:
    """End the run when there is too little to train on, or nothing to decide on. Raises DataError."""
    if funnel.pairs < spec.minimum_pairs:
        lost = funnel.rows - funnel.pairs
        raise DataError(
            f"{funnel.pairs} usable pairs from {funnel.rows} rows ({lost} rows made none), data.minimumPairs is "
            f"{spec.minimum_pairs}; collect more, or lower it in a new run.",
            reason="TooFewPairs",
        )
    if not funnel.train or not funnel.holdout:
        empty = "train side" if not funnel.train else "holdout"
        raise DataError(
            f"The {empty} is empty: {funnel.groups} groups at holdout.fraction {spec.holdout.fraction:g}. Give rows a group "
            "that varies, or another fraction.",
            reason="TooFewPairs",
        )
