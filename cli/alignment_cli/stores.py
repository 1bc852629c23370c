"""The stores of a run, opened with the person's own credentials; trainer errors become command errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alignment_api.exitcodes import AlignExit
from alignment_cli.errors import CommandError

if TYPE_CHECKING:
    from alignment_api.spec import StorageSpec
    from alignment_trainer.storage.registry import Stores

__all__ = ["open_stores", "storage_at", "trainer_errors"]

_OF_DATA = frozenset(
    {
        "boto3",
        "botocore",
        "huggingface_hub",
        "jinja2",
        "numpy",
        "pyarrow",
        "rapidfuzz",
        "tokenizers",
        "zstandard",
    }
)
"""What the extra ``data`` installs; everything else comes with ``trainer``."""


def storage_at(endpoint: str | None, storage: StorageSpec | None = None) -> StorageSpec:
    """``storage`` (omitted: boto3's own chain) with the endpoint of ``--endpoint``. Raises CommandError when it is no URL."""
    from pydantic import ValidationError

    from alignment_api.spec import StorageSpec
    from alignment_cli.manifests import invalid

    known = storage.to_wire() if storage is not None else {}
    try:
        return StorageSpec.model_validate(known | ({"endpoint": endpoint} if endpoint is not None else {}))
    except ValidationError as error:
        raise invalid("--endpoint is not valid", error) from None


def open_stores(storage: StorageSpec | None = None) -> Stores:
    """Stores for a run's ``spec.storage``, or with boto3's own chain. Raises CommandError without the data packages."""
    try:
        from alignment_trainer.storage.registry import Stores
    except ModuleNotFoundError as error:
        raise _more_packages(error) from None
    return Stores(storage)


def _more_packages(error: ModuleNotFoundError) -> Exception:
    """What to install; the error itself where it is our own module that is missing."""
    package = (error.name or "").partition(".")[0]
    if package.startswith("alignment_"):
        return error
    extra = "data" if package in _OF_DATA else "trainer"
    return CommandError(
        f"This verb needs more packages ({package} is missing): pip install 'alignment-operator[{extra}]'.",
        exit_code=AlignExit.OTHER,
    )


@contextmanager
def trainer_errors() -> Iterator[None]:
    """Turn the trainer's errors, which already say what and what to do, into one message and its exit code.

    Imports of the trainer belong inside: what is not installed is said as well.
    """
    from alignment_trainer.errors import DataError, RequestError, StageError

    try:
        yield
    except ModuleNotFoundError as error:
        raise _more_packages(error) from None
    except RequestError as error:
        raise CommandError(error.message) from None
    except DataError as error:
        raise CommandError(error.message, exit_code=AlignExit.DATA_INVALID) from None
    except StageError as error:
        raise CommandError(error.message, exit_code=AlignExit.OTHER) from None
