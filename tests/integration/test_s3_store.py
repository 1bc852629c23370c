"""The store's contract against a real S3 server, and what goes wrong with one."""

from __future__ import annotations

import pytest

from alignment_trainer.storage.s3 import S3Store
from alignment_trainer.storage.store import ObjectStore
from support.s3server import S3Server
from support.store_contract import StoreContract


@pytest.fixture
def store(s3: S3Server) -> ObjectStore:
    return S3Store(s3.spec)


@pytest.fixture
def base(bucket: str) -> str:
    return bucket + "some/folder/"


class TestS3(StoreContract):
    pass
