"""``spec.storage``, ``spec.artifacts``, ``spec.publish``: where things are kept and how they are reached."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.base import ArtifactUri, DnsLabel, Rule, SpecModel
from alignment_api.spec.pods import NameRef

__all__ = [
    "ArtifactsSpec",
    "CaBundleRef",
    "EncryptionType",
    "PublishSpec",
    "ServerSideEncryption",
    "StorageSpec",
]


class EncryptionType(StrEnum):
    """Server-side encryption of S3."""

    AES256 = "AES256"
    KMS = "KMS"


class CaBundleRef(SpecModel):
    """PEM certificates of a private authority, in a ConfigMap of the run's namespace."""

    name: DnsLabel = Field(description="Name of the ConfigMap.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        default="ca.crt", description="Key within the ConfigMap."
    )


class ServerSideEncryption(SpecModel):
    """How the store encrypts what is written."""

    RULES = (
        Rule(
            "self.type == 'KMS' || !has(self.kmsKeyId)",
            "kmsKeyId belongs to type KMS",
            lambda s: s.type is EncryptionType.KMS or s.kms_key_id is None,
        ),
    )

    type: EncryptionType = Field(default=EncryptionType.AES256, description="AES256, or KMS.")
    kms_key_id: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = Field(
        default=None, description="Key for KMS; omitted: the bucket's own."
    )


class StorageSpec(SpecModel):
    """How s3:// is reached; whatever is omitted comes from boto3's own chain (environment, workload identity)."""

    endpoint: Annotated[str, StringConstraints(max_length=1024, pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None, description="Endpoint of an S3-compatible store; omitted: AWS."
    )
    region: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None, description="Region, e.g. eu-central-1."
    )
    credentials_secret_ref: NameRef | None = Field(
        default=None,
        description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_SESSION_TOKEN; omitted: workload identity.",
    )
    ca_bundle_ref: CaBundleRef | None = Field(
        default=None, description="Certificates of a private authority."
    )
    server_side_encryption: ServerSideEncryption | None = Field(
        default=None, description="Encryption asked of the store; omitted: the bucket's default."
    )


class ArtifactsSpec(SpecModel):
    """Where snapshots, candidates, reports, caches and the ledger are kept."""

    uri: ArtifactUri = Field(description="Folder for everything but the published model.")
    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=90, description="Days after which a finished run's folder may be deleted."
    )


class PublishSpec(SpecModel):
    """Where the released model goes."""

    uri: ArtifactUri = Field(description="Folder with versions/ and aliases/.")
    alias: DnsLabel = Field(default="champion", description="Alias to move to the new version.")
