"""What botocore says, as one sentence that names the URI and the remedy. Called by :mod:`s3` alone.

Only error codes and class names are passed on, never a server's or a library's own text: those may quote
requests, and requests carry credentials.
"""

from __future__ import annotations

from typing import Final

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError  # type: ignore[import-untyped]

from alignment_trainer.errors import RequestError, StageError, TemporaryError
from alignment_trainer.storage.refusals import missing

__all__ = ["BOTO_ERRORS", "error_code", "is_missing", "status_code", "translate"]

BOTO_ERRORS: Final = (ClientError, BotoCoreError, Boto3Error, RetriesExceededError, ResponseParserError)

_BUCKET = (
    "BucketMissing",
    "bucket {bucket} does not exist at {endpoint}; create it, or correct the URI or spec.storage.endpoint",
)
_DENIED = (
    "AccessDenied",
    "access was denied; give these credentials read, write, list and delete rights on bucket {bucket}",
)
_REJECTED = (
    "CredentialsRejected",
    "the credentials were rejected by {endpoint}; check the secret named in spec.storage.credentialsSecretRef",
)
_REGION = ("WrongRegion", "bucket {bucket} lives in another region; set spec.storage.region to it")
_FOLDER = (
    "KeyIsFolder",
    "an object lies where a folder is needed, or the other way round; this store keeps keys as files. Rename one of them",
)
_QUOTA = ("StorageFull", "the store has no room left; free space or raise the quota")
_CHECKSUM = (
    "ChecksumDiffers",
    "the store received other bytes than were sent; try again, and check the network if it stays",
)

_REQUEST: Final = {
    "NoSuchBucket": _BUCKET,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AccountProblem": _DENIED,
    "403": _DENIED,
    "Forbidden": _DENIED,
    "InvalidAccessKeyId": _REJECTED,
    "SignatureDoesNotMatch": _REJECTED,
    "ExpiredToken": _REJECTED,
    "InvalidToken": _REJECTED,
    "TokenRefreshRequired": _REJECTED,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "ObjectParentIsFile": _FOLDER,
    "ExistingObjectIsDirectory": _FOLDER,
    "RequestTimeTooSkewed": (
        "ClockSkewed",
        "this machine's clock and the store's differ by minutes; set the clock",
    ),
    "KMS.NotFoundException": (
        "EncryptionKeyMissing",
        "the key of spec.storage.serverSideEncryption does not exist",
    ),
}
_TEMPORARY: Final = {
    "InsufficientStorage": _QUOTA,
    "QuotaExceeded": _QUOTA,
    "XMinioStorageFull": _QUOTA,
    "507": _QUOTA,
    "BadDigest": _CHECKSUM,
    "InvalidDigest": _CHECKSUM,
    "XAmzContentSHA256Mismatch": _CHECKSUM,
    "XAmzContentChecksumMismatch": _CHECKSUM,
}
_TRANSIENT_CODES: Final = {
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "OperationAborted",
    "ConditionalRequestConflict",
}

_NO_S3: Final = "{endpoint} does not answer like an S3 store; correct spec.storage.endpoint"
_BY_CLASS: Final[tuple[tuple[tuple[type[Exception], ...], type[StageError], str, str], ...]] = (
    (
        (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError),
        RequestError,
        "CredentialsMissing",
        (
            "no credentials were found; name a secret in spec.storage.credentialsSecretRef, set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give the pod a workload identity"
        ),
    ),
    (
        (boto.SSLError,),
        RequestError,
        "TlsFailed",
        (
            "the certificate of {endpoint} was not accepted; name the authority in spec.storage.caBundleRef "
            "(or AWS_CA_BUNDLE), or correct http and https in spec.storage.endpoint"
        ),
    ),
    (
        (boto.ParamValidationError, boto.InvalidRegionError, boto.NoRegionError),
        RequestError,
        "UriInvalid",
        "bucket name or region is not valid ({kind}); check the URI and spec.storage",
    ),
    (
        (boto.FlexibleChecksumError,),
        TemporaryError,
        "ChecksumDiffers",
        (
            "the bytes do not fit the checksum that {endpoint} keeps with them; they were damaged on the way or in the "
            "store. Try again; if it stays, restore the object"
        ),
    ),
    (
        (RetriesExceededError,),
        TemporaryError,
        "DownloadTruncated",
        "the download broke off, again and again; look at the network and the store, then try again",
    ),
    ((ResponseParserError,), RequestError, "WrongEndpoint", _NO_S3),
)


def error_code(error: BaseException) -> str:
    """S3's code, or the status where there is none; empty for errors that are no answers."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_code(error: BaseException) -> int:
    """HTTP status; 0 for errors that are no answers."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(error: BaseException) -> bool:
    """True when the object is not there (the bucket may not be there either: HEAD cannot tell)."""
    return error_code(error) in ("NoSuchKey", "404", "NotFound")


def translate(error: Exception, uri: str, *, bucket: str, endpoint: str) -> StageError:
    """The stage error for a botocore, boto3 or s3transfer error."""
    if isinstance(error, ClientError):
        return _answered(error, uri, bucket=bucket, endpoint=endpoint)
    for kinds, family, reason, sentence in _BY_CLASS:
        if isinstance(error, kinds):
            words = sentence.format(bucket=bucket, endpoint=endpoint, kind=type(error).__name__)
            return family(f"{uri}: {words}.", reason=reason)
    return TemporaryError(
        f"{uri}: {endpoint} could not be reached or broke off ({type(error).__name__}); "
        "check spec.storage.endpoint, the network and the store.",
        reason="StorageUnavailable",
    )


def _answered(error: ClientError, uri: str, *, bucket: str, endpoint: str) -> StageError:
    code, status = error_code(error), status_code(error)
    family: type[StageError] = RequestError
    known = _REQUEST.get(code)
    if known is None and code in _TEMPORARY:
        family, known = TemporaryError, _TEMPORARY[code]
    if known is not None:
        reason, sentence = known
        return family(f"{uri}: {sentence.format(bucket=bucket, endpoint=endpoint)}.", reason=reason)
    if is_missing(error):
        return missing(uri)
    if code in _TRANSIENT_CODES or status >= 500 or status in (408, 429):
        return TemporaryError(
            f"{uri}: {endpoint} answered {status} ({code}) several times; wait, or look at the store.",
            reason="StorageUnavailable",
        )
    if not code or (code.isdigit() and status != 400):  # S3 answers HEAD with a bare 400 for many reasons
        return RequestError(f"{uri}: {_NO_S3.format(endpoint=endpoint)}.", reason="WrongEndpoint")
    return RequestError(
        f"{uri}: {endpoint} refused with {status} ({code}); check the URI and spec.storage.",
        reason="StorageRefused",
    )
